"""Stops before a loss or gradient that is not finite spoils the weights."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner
from torch import Tensor, nn

from internvl_mm.evaluation.report import NON_FINITE
from internvl_mm.registry import HOOKS
from internvl_mm.utils.errors import UserError

from ._runner import describe, task_of


class NonFiniteLossError(UserError):
    """A loss or gradient became NaN or infinite."""


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Stops all processes when a loss or a gradient is not finite, before the optimiser uses it.

    The losses are checked between forward and backward, the gradients right before the optimiser's step (not with
    DeepSpeed, which steps by itself; there the next loss tells). The batch is named in ``non_finite_batch.json`` in the
    run folder.

    Raises:
        NonFiniteLossError: With iteration, losses, and where the batch is written.
    """

    def __init__(self) -> None:
        self._samples: list[Any] = []
        self._losses: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def before_train(self, runner: FlexibleRunner) -> None:
        """Listen to the task's forward and to the optimiser's step."""
        self._handles = [task_of(runner).register_forward_hook(partial(self._check_losses, runner))]
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        # DeepSpeed's optimisers are of their own kind.
        if isinstance(optimizer, torch.optim.Optimizer):
            self._handles.append(optimizer.register_step_pre_hook(partial(self._check_gradients, runner)))

    def before_train_iter(self, runner: FlexibleRunner, batch_idx: int, data_batch: Any = None) -> None:
        """Remember which samples are about to be used."""
        self._samples = data_batch['data_samples']

    def after_train(self, runner: FlexibleRunner) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()

    def _check_losses(self, runner: FlexibleRunner, task: nn.Module, inputs: Any, losses: Any) -> None:
        if not (task.training and isinstance(losses, dict)):
            return
        self._losses = {name: _mean(value) for name, value in losses.items()}
        total = torch.stack([value for name, value in self._losses.items() if 'loss' in name]).sum()
        mine = ~torch.isfinite(total)
        # Every process has to know, or the others would wait for this one in the next reduction.
        anyone = mine.to(torch.int32)
        all_reduce(anyone, 'max')
        if anyone.item():
            self._stop(runner, 'loss', samples=self._samples if mine.item() else [])

    def _check_gradients(
        self, runner: FlexibleRunner, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
    ) -> None:
        gradients = [
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group['params']
            if parameter.grad is not None
        ]
        # One fused norm and one transfer per step; which parameter it was is looked up only when it happened.
        if gradients and not torch.isfinite(torch.nn.utils.get_total_norm(gradients)).item():
            # DDP has averaged: every process sees the same and stops here, too.
            named = task_of(runner).named_parameters()
            bad = [name for name, p in named if p.grad is not None and not torch.isfinite(p.grad).all()]
            self._stop(runner, 'gradient', samples=self._samples, parameters=bad)

    def _stop(
        self, runner: FlexibleRunner, what: str, *, samples: list[Any], parameters: list[str] | None = None
    ) -> None:
        record = dict(
            what=what,
            iteration=runner.iter + 1,
            # as text: JSON has no NaN
            parts={name: f'{value.item():.6g}' for name, value in self._losses.items()},
            parameters=parameters or [],
            samples=[sample for share in all_gather_object(describe(samples)) for sample in share],
        )
        file = Path(runner.log_dir) / NON_FINITE
        if is_main_process():
            file.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding='utf-8')
        runner.call_hook('after_stop')  # the exception skips after_run; ReportHook shows what happened
        parts = ', '.join(f'{name}={value}' for name, value in record['parts'].items())
        where = f' in {len(parameters)} parameters, first {parameters[0]}' if parameters else ''
        first = record['samples'][0] if record['samples'] else {}
        raise NonFiniteLossError(
            f'the {what} is not finite at iteration {record["iteration"]}{where} ({parts}). The batch of '
            f'{len(record["samples"])} samples (first: {first.get("dataset")}[{first.get("index")}], '
            f'{first.get("path") or "no file"}) is listed in {file}. The weights are those before this step: '
            "lower optim_wrapper.optimizer.lr, set optim_wrapper.clip_grad, use strategy.precision='fp32', "
            'or look at these samples'
        )


def _mean(value: Tensor | list[Tensor]) -> Tensor:
    """One number of a loss entry, which may be a list (one tensor per feature level)."""
    parts = value if isinstance(value, list) else [value]
    return torch.stack([part.detach().float().mean() for part in parts]).mean()
