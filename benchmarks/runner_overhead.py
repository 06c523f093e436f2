"""Steps per second of our runner with all default hooks, against a bare loop and against mmengine's stock runner.

All three train the same classifier on the same batches held in memory, with AdamW and clipping; they run in turns, a
fresh run each, and the time counts from after the first steps to the last. The gate: the bare loop and our runner end
with the same loss. Our hooks save no state meanwhile (the interval is longer), as mmengine's. Seconds are the
processor's: nobody waits for anything here, and other work on the machine counts less.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import CheckpointHook as StockCheckpointHook
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop
from mmengine.runner import Runner as StockRunner
from torch.optim import AdamW
from torch.utils.data import Dataset

from benchmarks.harness import Row, compare, processor_clock
from internvl_mm.data.collate import collate_samples
from internvl_mm.data.samplers import StreamSampler
from internvl_mm.engine.config import load_config
from internvl_mm.engine.loops import IterTrainLoop
from internvl_mm.engine.runner import Runner
from internvl_mm.registry import DATASETS, MODELS
from internvl_mm.structures import ImageSample

CONFIG = 'quickstart/finetune_intern_vit_tiny_digits.py'
BATCH, WARMUP, STEPS = 32, 5, 40
BARE_GOAL, STOCK_GOAL = 0.97, 1.0


@DATASETS.register_module()
class HeldImages(Dataset):
    """Random pictures in memory, so that reading costs next to nothing."""

    metainfo = dict(dataset='held', classes=tuple(map(str, range(10))))

    def __init__(self, length: int = 256):
        draw = torch.Generator().manual_seed(0)
        self.pictures = torch.randint(256, (length, 3, 56, 56), dtype=torch.uint8, generator=draw)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = int(index)
        sample = ImageSample.labelled(index % 10, dataset='held', index=index)
        return dict(inputs=self.pictures[index], data_samples=sample)


class Clock(Hook):
    """Processor seconds between two steps, and the last loss."""

    priority = 'LOWEST'

    def __init__(self, last: int):
        self.last, self.seconds, self.loss = last, 0.0, 0.0

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Start and stop."""
        if batch_idx + 1 == WARMUP:
            self.seconds = -processor_clock()
        elif batch_idx + 1 == self.last:
            self.seconds += processor_clock()
            self.loss = float(outputs['loss'])


def loader() -> dict[str, Any]:
    """The training data of all."""
    return dict(
        dataset=dict(type=HeldImages),
        sampler=dict(type=StreamSampler),
        batch_size=BATCH,
        num_workers=0,
        collate_fn=dict(type=collate_samples),
    )


def model() -> dict[str, Any]:
    """The quickstart's classifier without random layers, so that losses can be compared."""
    settings = load_config(CONFIG).model.to_dict()
    settings['backbone'].update(drop_path_rate=0.0, pretrained=None)
    settings['data_preprocessor'].pop('batch_augment', None)
    return settings


def optimiser() -> dict[str, Any]:
    """Of all."""
    return dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3), clip_grad=dict(max_norm=1.0))


def ours(steps: int, folder: str) -> tuple[float, float]:
    """Our runner with the default hooks of every config."""
    cfg = load_config(CONFIG)
    runner = Runner.from_cfg(
        dict(
            model=model(),
            work_dir=folder,
            train_dataloader=loader(),
            optim_wrapper=optimiser(),
            train_cfg=dict(type=IterTrainLoop, max_iters=steps),
            default_hooks=cfg.default_hooks.to_dict(),
            log_processor=cfg.log_processor.to_dict(),
            visualizer=cfg.visualizer.to_dict(),
            randomness=dict(seed=0),
            log_level='ERROR',
        )
    )
    clock = Clock(steps)
    runner.register_hook(clock)
    runner.train()
    return clock.seconds, clock.loss


def stock(steps: int, folder: str) -> tuple[float, float]:
    """The runner of mmengine with its default hooks."""
    runner = StockRunner(
        model=model(),
        work_dir=folder,
        train_dataloader=Runner.build_dataloader(loader(), seed=0),
        optim_wrapper=optimiser(),
        train_cfg=dict(type=IterBasedTrainLoop, max_iters=steps),
        default_hooks=dict(
            checkpoint=dict(type=StockCheckpointHook, by_epoch=False, interval=10 * steps, save_last=False)
        ),
        randomness=dict(seed=0),
        default_scope='internvl_mm',
        experiment_name=Path(folder).name,
        log_level='ERROR',
    )
    clock = Clock(steps)
    runner.register_hook(clock)
    runner.train()
    return clock.seconds, clock.loss


def bare(steps: int, folder: str) -> tuple[float, float]:
    """The least a training loop does."""
    torch.manual_seed(0)
    task = MODELS.build(model())
    task.init_weights()
    task.train()
    optimizer = AdamW(task.parameters(), lr=1e-3)
    seconds = loss = 0.0
    for number, batch in zip(range(1, steps + 1), Runner.build_dataloader(loader(), seed=0), strict=False):
        batch = task.data_preprocessor(batch, True)
        total = task(**batch, mode='loss')['loss']
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
        loss = total.item()  # looked at, as anyone who logs it does
        if number == WARMUP:
            seconds = -processor_clock()
    return seconds + processor_clock(), loss


def run(quick: bool = False) -> list[Row]:
    """Runs in turns."""
    rounds, steps = (2, 15) if quick else (7, STEPS)
    contestants = dict(ours=ours, bare=bare, stock=stock)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        losses = {}
        # Back and forth: nobody always runs right after the same other.
        for name in list(contestants)[:: 1 if number % 2 else -1]:
            with tempfile.TemporaryDirectory() as folder:
                taken, losses[name] = contestants[name](steps, folder)
            if number:
                seconds[name].append(taken / (steps - WARMUP))
        if abs(losses['ours'] - losses['bare']) > 1e-4 * abs(losses['bare']):
            raise AssertionError(f'the runs differ: {losses}')
    title = f'step of {BATCH} pictures'
    return [
        compare(title, seconds, 'bare', goal=BARE_GOAL, note='a bare loop with clipping'),
        compare(title, seconds, 'stock', goal=STOCK_GOAL, note="mmengine's runner, its default hooks"),
    ]
