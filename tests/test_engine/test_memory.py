"""Formulas of memory, by hand and against what the libraries really keep."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from internvl_mm.engine.config import config_root, load_config
from internvl_mm.engine.doctor.trial import trial
from internvl_mm.engine.memory import (
    GIB,
    STRATEGIES,
    Memory,
    SavedBytes,
    Sharing,
    Sizes,
    StepBytes,
    plan_rows,
    print_plan,
    state_per_value,
)
from internvl_mm.engine.runner import Runner
from internvl_mm.engine.strategies import DeepSpeedStrategy
from internvl_mm.registry import MODELS
from tests.test_engine.tiny import tiny_model


@pytest.mark.parametrize(
    ('optimizer', 'values'),
    [
        (dict(type=AdamW, lr=1.0), 2),
        (dict(type=AdamW, lr=1.0, amsgrad=True), 3),
        (dict(type=SGD, lr=1.0, momentum=0.9, nesterov=True), 1),
        (dict(type=SGD, lr=1.0), 0),
    ],
)
def test_optimizer_state(optimizer: dict, values: int) -> None:
    assert state_per_value(optimizer) == values


def test_memory_by_strategy() -> None:
    # 100 values train, 300 do not; single layers are no blocks.
    task = nn.ModuleList([nn.Linear(10, 10, bias=False), nn.Linear(10, 30, bias=False).requires_grad_(False)])
    sizes = Sizes.of(task, state_values=2, activations=7.0, averaged=400)
    found = {name: sizes.memory(sharing, 4) for name, sharing in STRATEGIES.items()}
    assert found == dict(
        # DeepSpeed steps on a copy of what trains, 100 values, and exchanges as many in a bucket.
        ddp=Memory(1600, 400, 800, 400, 7, start=4 * 1600),
        zero1=Memory(1600, 400, 300, 400, 7, buffers=400, start=4 * 1600),
        zero2=Memory(1600, 100, 300, 400, 7, buffers=400, start=4 * 1600),
        zero3=Memory(400, 100, 300, 400, 7, buffers=400 + 1600, start=1600),
        fsdp2=Memory(400, 100, 200, 400, 7, buffers=1600, start=1600),  # all of it is in no block
        zero3_offload=Memory(0, 100, 0, 400, 7, buffers=400 + 1600, host=300 + 400, start=1600),
    )
    assert found['ddp'].device == 1600 + 400 + 800 + 400 + 7
    assert found['zero1'].device == 1600 + 400 + 300 + 400 + 7 + 400
    assert sizes.memory(Sharing(), 1).buffers == 0


def test_fsdp_gathers_blocks_and_what_is_in_none() -> None:
    block = nn.Sequential(nn.Linear(10, 10), nn.ReLU())  # 110 values
    task = nn.ModuleDict(
        dict(blocks=nn.ModuleList([block, nn.Sequential(nn.Linear(10, 10))]), head=nn.Linear(10, 2))
    )
    sizes = Sizes.of(task, state_values=2, activations=0.0)
    assert (sizes.block, sizes.outside) == (110, 22)
    assert sizes.memory(STRATEGIES['fsdp2'], 2).buffers == 4 * (2 * 110 + 22)


def test_strategies_say_what_their_files_do() -> None:
    for name, sharing in STRATEGIES.items():
        file = config_root() / '_base_' / 'strategies' / f'{name}.py'
        strategy = load_config(str(file)).strategy
        if strategy.type is DeepSpeedStrategy:
            assert Sharing(strategy.zero_stage, strategy.get('offload', False), 'deepspeed') == sharing
        else:
            assert strategy.type.sharing == sharing


@pytest.mark.parametrize('stage', [1, 2, 3])
def test_deepspeed_steps_on_a_copy(stage: int, work_dir: Path) -> None:
    """Beside the parameters themselves, and as many values as train."""
    runner = Runner.from_cfg(trial(work_dir, strategy=dict(type=DeepSpeedStrategy, zero_stage=stage)))
    runner.train()
    assert runner.strategy.sharing == Sharing(stage, library='deepspeed')
    outer = runner.strategy.engine.optimizer
    copies = outer.fp32_partitioned_groups_flat if stage == 3 else outer.single_partition_of_fp32_groups
    storages = {
        getattr(p, 'ds_tensor', p).untyped_storage().data_ptr() for p in runner.strategy.task.parameters()
    }
    assert not storages & {copy.untyped_storage().data_ptr() for copy in copies}
    sizes = Sizes.of(runner.strategy.task, state_values=0, activations=0.0)
    assert sizes.memory(runner.strategy.sharing, 1).optimizer == sum(copy.nbytes for copy in copies)


def test_of_recomputed_blocks_one_inside_is_counted() -> None:
    kept = {}
    for recompute in (False, True):
        model = tiny_model(width=64, depth=4, drop_path=0.0)
        model['backbone'].update(image_size=56, gradient_checkpointing=recompute)
        task = MODELS.build(model)
        pixels = torch.rand(2, 3, 56, 56)
        with StepBytes(task) as saved:
            task.backbone(pixels).tokens.sum().backward()
        kept[recompute] = saved.total, saved.inside
        assert not any(
            block._forward_hooks or block._forward_pre_hooks for block in task.backbone.encoder.layers
        )
    block, tokens = task.backbone.encoder.layers[0], torch.rand(2, 17, 64, requires_grad=True)
    with SavedBytes(block) as alone:
        block(tokens, (4, 4))
    assert kept[False][1] == 0
    assert kept[True][1] == alone.total
    assert kept[True][0] < kept[False][0] - 3 * kept[True][1] / 2


def test_rows_that_make_a_difference(capsys: pytest.CaptureFixture) -> None:
    sizes = Sizes.of(nn.Linear(10, 10), state_values=2, activations=float(70 * GIB))
    rows = plan_rows(sizes, [1, 2])
    # One GPU has nothing to share out, but it may offload.
    assert [name for name, gpus, _ in rows if gpus == 1] == ['single', 'zero3_offload']
    assert [name for name, gpus, _ in rows if gpus == 2] == list(STRATEGIES)
    print_plan('fits', rows, capacity=80)
    assert 'yes' in capsys.readouterr().out
    print_plan('too large', rows, capacity=75)  # a tenth has to stay free
    told = capsys.readouterr().out
    assert 'yes' not in told and 'GiB per GPU' in told and 'weights 4·P' in told
