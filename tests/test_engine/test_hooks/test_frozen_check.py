"""What trains is counted, what is frozen stays bit-identical."""

from __future__ import annotations

import logging

import pytest
import torch
from mmengine.hooks import Hook

from internvl_mm.engine.hooks import FrozenCheckHook
from internvl_mm.engine.hooks.frozen_check import count_parameters
from internvl_mm.utils.errors import ConfigError

from .conftest import tiny_task


def test_counts():
    task = tiny_task(frozen='all')
    trainable, frozen = count_parameters(task)['backbone']
    assert (trainable, frozen) == (0, sum(p.numel() for p in task.backbone.parameters()))
    # batch norm without affine parameters or with them: the linear layer is 32 x 4 + 4
    assert count_parameters(task)['head'][0] == sum(p.numel() for p in task.head.parameters()) >= 132


def test_frozen_backbone_passes(make_runner):
    hook = FrozenCheckHook()
    make_runner(hook, task=tiny_task(frozen='all')).train()
    assert len(hook._sums) == len(list(tiny_task().backbone.parameters()))


def test_nothing_trains(make_runner):
    task = tiny_task(frozen='all')
    task.head.requires_grad_(False)
    runner = make_runner(FrozenCheckHook())
    runner.model = task
    with pytest.raises(ConfigError, match='no parameter of ImageClassifier is trainable.*backbone, head'):
        FrozenCheckHook().before_train(runner)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_smallest_change_is_seen(make_runner, dtype):
    class OneBit(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            weight = runner.model.backbone.embeddings.position_embedding.data
            view = weight.view(-1).view(torch.int32 if dtype == torch.float32 else torch.int16)
            view[3] ^= 1

    task = tiny_task(frozen='all')
    task.backbone.to(dtype)
    task.set_precision(torch.bfloat16)
    with pytest.raises(RuntimeError, match='1 frozen parameters changed.*position_embedding'):
        make_runner(FrozenCheckHook(), OneBit(), task=task, iterations=1).train()


def test_log_names_the_parts(make_runner, caplog):
    runner = make_runner(FrozenCheckHook(), task=tiny_task(frozen='all'))
    runner.logger.setLevel(logging.INFO)
    runner.logger.addHandler(caplog.handler)
    runner.train()
    assert 'backbone: 0 parameters train' in caplog.text
