"""The run stops before a bad number reaches the weights, and says which batch it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from internvl_mm.engine.hooks import NonFiniteHook, NonFiniteLossError
from internvl_mm.models.tasks import ImageClassifier


def snapshot(task: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in task.named_parameters()}


def assert_unspoiled(task: torch.nn.Module, before: dict[str, torch.Tensor]) -> None:
    for name, parameter in task.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=0)


def test_finite_run_is_untouched(make_runner):
    runner = make_runner(NonFiniteHook())
    task = runner.train()
    assert not (Path(runner.log_dir) / 'non_finite_batch.json').exists()
    assert not task._forward_hooks


@pytest.fixture
def states(monkeypatch) -> list[dict[str, torch.Tensor]]:
    """The parameters before each step."""
    seen, loss = [], ImageClassifier.loss

    def watched(task, inputs, data_samples):
        seen.append(snapshot(task))
        return loss(task, inputs, data_samples)

    monkeypatch.setattr(ImageClassifier, 'loss', watched)
    return seen


def test_loss(make_runner, monkeypatch, states):
    runner = make_runner(NonFiniteHook())
    watched = ImageClassifier.loss

    def second_is_nan(task, inputs, data_samples):
        losses = watched(task, inputs, data_samples)
        return losses if len(states) == 1 else losses | dict(loss=losses['loss'] * torch.nan)

    monkeypatch.setattr(ImageClassifier, 'loss', second_is_nan)
    with pytest.raises(
        NonFiniteLossError, match=r'loss is not finite at iteration 2 .*noise\[3\], 3.png.*clip_grad'
    ):
        runner.train()
    record = json.loads((Path(runner.log_dir) / 'non_finite_batch.json').read_text())
    assert record['parts']['loss'] == 'nan'
    assert record['iteration'] == 2
    assert [sample['path'] for sample in record['samples']] == ['3.png', '4.png', '5.png']
    assert_unspoiled(runner.model, states[1])


@pytest.mark.parametrize('settings', [{}, dict(clip_grad=dict(max_norm=1.0))])
def test_gradient_with_finite_loss(make_runner, settings, states):
    runner = make_runner(NonFiniteHook(), **settings)
    task = runner.model
    task.backbone.encoder.layers[0].ls1.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(NonFiniteLossError, match=r'gradient is not finite at iteration 1 in'):
        runner.train()
    record = json.loads((Path(runner.log_dir) / 'non_finite_batch.json').read_text())
    assert 'backbone.encoder.layers.0.ls1' in record['parameters']
    assert_unspoiled(task, states[0])


def test_list_of_losses(make_runner, monkeypatch):
    runner = make_runner(NonFiniteHook())
    monkeypatch.setattr(
        ImageClassifier,
        'loss',
        lambda task, inputs, data_samples: dict(loss_box=[torch.ones(2), torch.tensor(torch.inf)]),
    )
    with pytest.raises(NonFiniteLossError, match='loss_box=inf'):
        runner.train()
