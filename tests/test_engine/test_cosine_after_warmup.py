"""The schedule of chat training against transformers' own."""

from __future__ import annotations

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from internvl_mm.engine.optim import CosineAfterSteps, CosineAfterWarmup


@pytest.mark.parametrize(('warmup', 'end'), [(5, 40), (0, 10), (3, 3)])
def test_every_step_has_the_rate_of_transformers(warmup: int, end: int) -> None:
    optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3) for _ in range(2)]
    ours = CosineAfterWarmup(optimizers[0], warmup=warmup, end=end, by_epoch=False)
    theirs = get_cosine_schedule_with_warmup(optimizers[1], warmup, end)
    for _ in range(end):
        assert optimizers[0].param_groups[0]['lr'] == pytest.approx(optimizers[1].param_groups[0]['lr'])
        for optimizer in optimizers:
            optimizer.step()
        ours.step()
        theirs.step()


def test_a_share_of_one_epoch_is_warm_up() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = CosineAfterWarmup.build_iter_from_epoch(optimizer, warmup=0.03, end=1, epoch_length=1000)
    assert (schedule.warmup, schedule.total) == (30, 1000)


@pytest.mark.parametrize(('length', 'expected'), [(1000, 100), (50, 50)])
def test_a_warm_up_of_steps_does_not_grow_with_the_epoch(length: int, expected: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = CosineAfterSteps.build_iter_from_epoch(optimizer, warmup=100, end=1, epoch_length=length)
    # a trial on little data is shorter than the warm-up of the recipe
    assert (schedule.warmup, schedule.total) == (expected, length)
