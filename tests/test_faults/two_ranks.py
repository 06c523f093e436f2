"""Faults in one of two processes: ``python -m … FOLDER nan|hang|node``, under torchrun's environment variables."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import Hook

from internvl_mm.data.datasets import DigitSceneDataset
from internvl_mm.engine.doctor.runs import check_skipped
from internvl_mm.engine.doctor.trial import SIZE, Poison, run, trial
from internvl_mm.engine.hooks import CheckpointHook, HangWatchHook, NonFiniteLossError
from internvl_mm.engine.strategies import DDPStrategy, DeepSpeedStrategy

DIGITS = dict(type=DigitSceneDataset, split='train', size=SIZE, length=48)  # six steps of twice four
STRATEGIES: dict[str, dict[str, Any]] = dict(
    ddp=dict(type=DDPStrategy),
    **{f'zero{stage}': dict(type=DeepSpeedStrategy, zero_stage=stage) for stage in (1, 2, 3)},
)
NODE_STEPS = 12


class Pause(Hook):
    """Sleeps in a step of one process, or in every step of all."""

    def __init__(self, seconds: float, *, step: int | None = None, rank: int | None = None):
        self.seconds, self.step, self.rank = seconds, step, rank

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if self.step in (None, runner.iter + 1) and self.rank in (None, get_rank()):
            time.sleep(self.seconds)


def config(folder: Path, strategy: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return trial(folder, dataset=DIGITS, strategy=strategy, launcher='pytorch', **changes)


def nan(folder: Path) -> None:
    """In each strategy, at a random step of a random process: the step is skipped on both, and three stop both."""
    draw = random.Random(0)
    for name, strategy in STRATEGIES.items():
        for what in ('loss', 'gradient'):
            step, rank = draw.randrange(1, 7), draw.randrange(2)
            runner, seen = run(config(folder / name / what, strategy), Poison(what, {step}, rank=rank))
            check_skipped(seen.weights, step)
            if name != 'zero3':  # there, weights are shares
                first, second = all_gather_object(seen.weights[-1])
                assert torch.equal(first, second), f'{name}: processes have different weights'
            lines = (Path(runner.log_dir) / 'non_finite.jsonl').read_text().splitlines()
            # A loss is known to be of one process; a gradient is of all.
            assert len(lines) == 1 and lines[0].count('"index"') == (4 if what == 'loss' else 8), lines
        for poison, saved in (
            (Poison('loss', {2, 3, 4}, rank=1), ['iter_000004']),
            (Poison('parameter', {3}, rank=1), []),
        ):
            place = folder / name / f'stop_{poison.what}'
            try:
                run(config(place, strategy), poison)
            except NonFiniteLossError as error:
                assert f'the {poison.what} is not finite' in str(error), error
            else:
                raise AssertionError(f'{name}: {poison.what} did not stop process {get_rank()}')
            assert [path.name for path in place.glob('*/checkpoints/iter_*')] == saved, name


def hang(folder: Path) -> None:
    """Process 1 stands still in step 3, and process 0 waits for it."""
    hooks = [dict(type=HangWatchHook, timeout=8)]
    run(config(folder, STRATEGIES['ddp'], custom_hooks=hooks), Pause(600, step=3, rank=1))


def node(folder: Path) -> None:
    """Goes on from the last state, which every step leaves."""
    hooks = [dict(type=CheckpointHook, interval=1)]
    changes = dict(custom_hooks=hooks, resume=True)
    settings = config(folder, STRATEGIES['ddp'], **changes)
    settings['train_dataloader']['dataset'] = dict(DIGITS, length=8 * NODE_STEPS)
    run(settings, Pause(0.5))


if __name__ == '__main__':
    dict(nan=nan, hang=hang, node=node)[sys.argv[2]](Path(sys.argv[1]))
