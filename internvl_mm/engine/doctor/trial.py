"""A training small enough to break on purpose, and the hooks that break it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import DigitSceneDataset
from internvl_mm.data.samplers import EpochSampler
from internvl_mm.engine.hooks import BadSampleHook, CheckpointHook, NonFiniteHook, StopSignalHook
from internvl_mm.engine.hooks._runner import task_of
from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.engine.runner import Runner
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import ClsPatchConcat
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.utils.parameters import local_part

SIZE = 28  # pixels: 2×2 patches


def trial(
    work_dir: Path, *, dataset: dict | None = None, batch_size: int = 4, **changes: Any
) -> dict[str, Any]:
    """Config of a training: six steps of four digits, one block of width 16, every guard on.

    Args:
        work_dir: Where its run folder goes.
        dataset: Other pictures.
        batch_size: Of a process.
        changes: Other settings; ``workers`` and ``step`` are those of loader and loop.
    """
    # These two belong into loader and loop, not to the top of a config.
    workers, step = changes.pop('workers', 0), changes.pop('step', None)
    backbone = dict(
        type=InternViT,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=SIZE,
    )
    config = dict(
        model=dict(
            type=ImageClassifier,
            backbone=backbone,
            neck=dict(type=ClsPatchConcat),
            # Layer norm: a batch norm would couple the samples of a batch, which then cannot be halved.
            head=dict(type=LinearClsHead, num_classes=10, norm='layer'),
            data_preprocessor=dict(type=ImageDataPreprocessor),
        ),
        work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=dataset or dict(type=DigitSceneDataset, split='train', size=SIZE, length=24),
            sampler=dict(type=EpochSampler),
            batch_size=batch_size,
            num_workers=workers,
            collate_fn=dict(type=collate_samples),
        ),
        # Plain SGD keeps no moments: weights differ by a tenth of what gradients do.
        optim_wrapper=dict(type=OptimWrapper, optimizer=dict(type=torch.optim.SGD, lr=0.1)),
        train_cfg=dict(type=EpochTrainLoop, max_epochs=1, step=step),
        # None takes one of mmengine's indispensable hooks out.
        default_hooks=dict(logger=None),
        custom_hooks=[
            dict(type=kind) for kind in (BadSampleHook, NonFiniteHook, CheckpointHook, StopSignalHook)
        ],
        randomness=dict(seed=0),
        log_level='CRITICAL',  # what it would warn of is done on purpose
    )
    return dict(config, **changes)


class Recorder(Hook):
    """Keeps the loss of every step, and the weights before the first and after every step, one vector each."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.weights: list[torch.Tensor] = []

    def before_train(self, runner: Any) -> None:
        """The weights training starts from."""
        self.weights = [self._weights(runner)]

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """One step."""
        self.losses.append(float(outputs['loss'].detach()))
        self.weights.append(self._weights(runner))

    def _weights(self, runner: Any) -> torch.Tensor:
        # [values of this process]: under ZeRO-3 its share, which is all it can compare.
        parts = [local_part(p).detach().flatten().clone() for p in task_of(runner).parameters()]
        return torch.cat(parts)


class Poison(Hook):
    """Makes a loss, a gradient or a parameter NaN in some steps, counted from 1, of one process."""

    def __init__(
        self, what: Literal['loss', 'gradient', 'parameter'], iterations: set[int], *, rank: int = 0
    ):
        self.what, self.iterations, self.rank = what, iterations, rank
        self._handle: Any = None

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Spoil this step."""
        # Counted from 1 as logs and states do; runner.iter counts what is done.
        if runner.iter + 1 not in self.iterations or get_rank() != self.rank:
            return
        task = task_of(runner)
        # Any will do; the first takes part in every step.
        parameter = next(iter(task.parameters()))
        if self.what == 'loss':
            # In front of the hook that looks at losses.
            self._handle = task.register_forward_hook(
                lambda module, args, losses: losses | dict(loss=losses['loss'] * torch.nan), prepend=True
            )
        elif self.what == 'gradient':
            self._handle = parameter.register_hook(lambda gradient: gradient * torch.nan)
        else:
            local_part(parameter).data.fill_(torch.nan)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """The next step is sound again, but for its parameters."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None


class Kick(Hook):
    """Sends a signal in a step, counted from 1: to this process, or to the one that ``target`` names."""

    def __init__(self, number: signal.Signals, iteration: int, target: Any = os.getpid):
        self.number, self.iteration, self.target = number, iteration, target

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Kick."""
        if runner.iter + 1 == self.iteration:
            os.kill(self.target(), self.number)


def next_worker() -> Callable[[], int]:
    """What finds the process id of a data worker of the run that comes next, once it is there.

    The caller may have other child processes, as a pool that stays: those that exist now are not meant.
    """
    others = set(multiprocessing.active_children())
    return lambda: next(iter(set(multiprocessing.active_children()) - others)).pid


def run(config: dict[str, Any], *hooks: Hook) -> tuple[Runner, Recorder]:
    """Train to the end; what was seen on the way."""
    runner, recorder = Runner.from_cfg(config), Recorder()
    for hook in (recorder, *hooks):
        runner.register_hook(hook)
    runner.train()
    return runner, recorder
