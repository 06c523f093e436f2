"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from internvl_mm.engine.loops import BenchmarkLoop
from internvl_mm.models.convert.files import like
from internvl_mm.registry import HOOKS
from internvl_mm.utils.errors import CheckpointError, ConfigError
from internvl_mm.utils.parameters import local_part

from ._runner import completes_update, sharing_of, statistic_places, statistics_of, task_of

STATE = 'ema'  # name of the average in a training state
PREFIX = 'ema/'  # of its metrics


@HOOKS.register_module()
class EMAHook(Hook):
    """Averages trainable parameters and float buffers: ``average = decay · average + (1 − decay) · weights``.

    The average starts at the initial weights, without warm-up, and moves with every optimiser step. It is kept in fp32.
    Every evaluation measures the raw weights and then the average, whose metrics begin with ``ema/``; ``tools/test.py``
    does, too, when the training state it loads holds an average. Frozen parameters equal their average and are not
    copied. Where processes share out the weights by rows (FSDP), each averages its own.

    Args:
        decay: Weight of the past.

    Raises:
        ConfigError: ``decay`` is not within 0 and 1, or ZeRO-3 partitions the parameters.
        CheckpointError: A resumed training state has no average, or one of other tensors.

    Source: timm's ModelEma with decay 0.998, as in the published linear probes.
    """

    # After NonFiniteHook (50), which puts running statistics of a skipped step back: a NaN never leaves an average.
    priority = 'BELOW_NORMAL'

    def __init__(self, decay: float = 0.998):  # looks back over some 500 updates
        if not 0 < decay < 1:
            raise ConfigError(
                f'EMAHook: decay={decay} must lie between 0 and 1; 0.998 is the published value'
            )
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        # One fused kernel over all tensors on CUDA.
        self._blend = get_ema_multi_avg_fn(decay)
        self._loaded: Mapping[str, Tensor] | None = None
        self._resumes = False

    def before_train(self, runner: FlexibleRunner) -> None:
        """Start from the present weights, or go on from the resumed average."""
        weights = averaged_tensors(task_of(runner))
        # fp32: in bf16 a step of (1 - decay) of the difference would round away.
        self.average = {name: tensor.detach().float().clone() for name, tensor in weights.items()}
        if self._resumes:
            self._take_loaded(runner)

    def before_test(self, runner: FlexibleRunner) -> None:
        """Without training before it: evaluate the average of the loaded training state, too."""
        if self._loaded is not None and not self.average:
            weights = averaged_tensors(task_of(runner))
            self.average = {name: torch.empty_like(tensor).float() for name, tensor in weights.items()}
            self._take_loaded(runner)

    def _take_loaded(self, runner: FlexibleRunner) -> None:
        if self._loaded is None:
            raise CheckpointError(
                'the training state has no average, which EMAHook would go on from: resume without the hook, as it was '
                'written, or start a new run from its weights with load_from'
            )
        shared = sharing_of(runner)
        whole = shared.tensor_shapes() if shared else {n: tuple(t.shape) for n, t in self.average.items()}
        shapes = {name: whole[name] for name in self.average}
        if {name: tuple(like(self._loaded, name).shape) for name in self._loaded} != shapes:
            differing = sorted(self._loaded.keys() ^ self.average.keys()) or ['shapes']
            raise CheckpointError(
                f'the average of the training state does not fit the model (differs in {", ".join(differing[:3])}): '
                'resume with the config it was trained with, or start a new run with load_from'
            )
        # Into the tensors of the model's device: states arrive on the CPU.
        for name, tensor in shared.own_parts(self._loaded) if shared else self._loaded.items():
            self.average[name].copy_(tensor)

    def after_train_iter(
        self, runner: FlexibleRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Follow the weights after an optimiser step; accumulating iterations do not count."""
        if completes_update(runner):
            weights = averaged_tensors(task_of(runner))
            # A saver may still read the averages: in fp16 a step can be skipped, and nothing else has waited for it.
            runner.call_hook('before_state_changes')
            # Both lists are paired by place, hence one order.
            self._blend(list(self.average.values()), [weights[name].float() for name in self.average], None)

    @contextmanager
    def applied(self, runner: FlexibleRunner) -> Iterator[None]:
        """Put the average into the model for the duration of a ``with`` block."""
        weights = averaged_tensors(task_of(runner))
        # A copy of the trainable weights for the time of an evaluation; exact, unlike computing back.
        raw = {name: tensor.detach().clone() for name, tensor in weights.items()}
        try:
            _assign(weights, self.average)
            yield
        finally:
            # Taken anew: FSDP gives up what the evaluation has gathered.
            _assign(averaged_tensors(task_of(runner)), raw)

    def after_benchmarks(
        self, runner: FlexibleRunner, loop: BenchmarkLoop, results: dict[str, dict[str, float]]
    ) -> None:
        """Measure the average, too."""
        if not self.average:
            return
        with self.applied(runner):
            for benchmark, values in loop.measure().items():
                results[benchmark].update({f'{PREFIX}{name}': value for name, value in values.items()})

    def before_save_checkpoint(self, runner: FlexibleRunner, checkpoint: dict[str, Any]) -> None:
        """Add the average to a training state."""
        if self.average:
            shared = sharing_of(runner)
            checkpoint[STATE] = shared.as_written(self.average) if shared else self.average

    def after_load_checkpoint(self, runner: FlexibleRunner, checkpoint: dict[str, Any]) -> None:
        """Take the average out of a training state; before training starts, the model may not be built yet."""
        self._loaded = checkpoint.get(STATE)
        # Loaded without its position, a state is a start: a run from there begins an average of its own.
        self._resumes = 'message_hub' in checkpoint


def averaged_tensors(task: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters, as far as this process holds them, and float buffers that belong into checkpoints."""
    # First: asked for its state, FSDP gives up what it has gathered.
    statistics = statistics_of(statistic_places(task))
    parameters = {name: p for name, p in task.named_parameters() if p.requires_grad}
    if any(hasattr(parameter, 'ds_tensor') for parameter in parameters.values()):
        raise ConfigError(
            'EMAHook cannot follow the parameters ZeRO-3 partitions: use fsdp2 or zero2, or drop it'
        )
    return {name: local_part(parameter.detach()) for name, parameter in parameters.items()} | statistics


@torch.no_grad()
def _assign(targets: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, target in targets.items():
        # In place: the optimiser and DDP hold these very tensors.
        target.copy_(values[name])
