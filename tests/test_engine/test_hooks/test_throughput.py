"""Images per second and model FLOP utilisation."""

from __future__ import annotations

import pytest
import torch

from internvl_mm.engine.hooks import ThroughputHook
from internvl_mm.engine.hooks._runner import task_of
from internvl_mm.engine.hooks.throughput import training_flops
from internvl_mm.utils.errors import ConfigError

from .conftest import tiny_task

# 2 (5 tokens (4·16² + 2·16·32) + 2·5²·16 + 4 patches · 588 · 16)
FORWARD = 2 * (5 * (4 * 16**2 + 2 * 16 * 32) + 2 * 25 * 16 + 4 * 588 * 16)


def test_flops():
    assert training_flops(tiny_task().backbone, (2, 2)) == 3 * FORWARD
    assert training_flops(tiny_task(frozen='all').backbone, (2, 2)) == FORWARD


def test_a_task_says_what_is_left_of_its_images_and_a_change_counts_anew(make_runner):
    hook = ThroughputHook(peak=1e9)
    runner = make_runner(hook)
    batch = dict(inputs=[torch.zeros(3, 28, 28)])
    hook.before_train_iter(runner, 5, batch)
    assert hook._flops == 3 * FORWARD
    task_of(runner).training_grid = lambda size: (1, size[0] // 28)
    hook.before_train_iter(runner, 6, batch)
    assert hook._flops == training_flops(task_of(runner).backbone, (1, 1)) < 3 * FORWARD


def test_scalars(make_runner):
    runner = make_runner(ThroughputHook(window=2, peak=1e9))
    runner.train()
    scalars = runner.message_hub.log_scalars
    times = scalars['train/time'].data[0]
    speed = scalars['train/images_per_second'].data[0]
    assert speed[-1] == pytest.approx(6 / sum(times[-2:]))
    assert scalars['train/mfu'].current() == pytest.approx(100 * speed[-1] * 3 * FORWARD / 1e9)


def test_unknown_peak_gives_no_utilisation(make_runner):
    runner = make_runner(ThroughputHook())
    runner.train()
    assert 'train/mfu' not in runner.message_hub.log_scalars


@pytest.mark.parametrize(('setting', 'message'), [(dict(window=0), 'window=0'), (dict(peak=-1.0), 'peak=-1')])
def test_values_without_a_meaning_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        ThroughputHook(**setting)
