"""No loss or gradient that is not finite reaches the weights."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import FlexibleRunner
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from internvl_mm.evaluation.report import NON_FINITE
from internvl_mm.registry import HOOKS
from internvl_mm.structures import describe
from internvl_mm.utils.errors import ConfigError, UserError
from internvl_mm.utils.parameters import local_part

from ._deepspeed import overflowed, skip_bad_steps
from ._runner import Places, completes_update, statistic_places, statistics_of, task_of
from .checkpoint import CheckpointHook

_MEND = (
    'The weights are those before this step: lower optim_wrapper.optimizer.lr, set optim_wrapper.clip_grad, use '
    "strategy.precision='fp32', or look at these samples"
)
_WAY_OUT = dict(
    loss=_MEND,
    gradient=_MEND,
    parameter='The weights themselves are spoiled and nothing was saved: go on from the last checkpoint with --resume; '
    'if it happens again without a change of settings, suspect the memory of the device',
)


class NonFiniteLossError(UserError):
    """A loss or gradient became NaN or infinite."""


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Skips steps whose loss or gradient is not finite, on all processes alike, and stops after a few in a row.

    The losses are looked at between forward and backward, the gradients right before the optimiser uses them. A skipped
    step leaves parameters, running statistics and the optimiser as they were; its batch is a line of
    ``non_finite.jsonl`` in the run folder. The stop saves a training state first. Where a parameter itself is not
    finite, no later step can be right: the run stops at once and saves nothing.

    DeepSpeed scales losses by itself in fp16: there the first bad loss stops the run.

    Args:
        patience: Steps in a row until the run stops; 1 stops at the first.

    Raises:
        NonFiniteLossError: With iteration, losses, and where the batch is written.
    """

    def __init__(self, patience: int = 3):
        if patience < 1:
            raise ConfigError(
                f'NonFiniteHook: patience={patience} must be at least 1, which stops at the first'
            )
        self.patience = patience
        self._samples: list[Any] = []
        self._losses: dict[str, Tensor] = {}
        self._places: Places = {}
        self._statistics: dict[str, Tensor] = {}
        self._handles: list[Any] = []
        self._bad: dict[str, Any] | None = None  # what is wrong with the running step
        self._in_a_row = 0
        self._can_skip = False  # whether the optimiser can be kept from a step

    def before_train(self, runner: FlexibleRunner) -> None:
        """Listen to the task's forward and to the optimiser's step."""
        self._handles = [task_of(runner).register_forward_hook(partial(self._check_losses, runner))]
        # Once: walking through a small model takes a percent of its step.
        self._places = statistic_places(task_of(runner))
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        if isinstance(optimizer, torch.optim.Optimizer):
            self._can_skip = True
            self._handles.append(optimizer.register_step_pre_hook(partial(self._check_gradients, runner)))
        else:
            # DeepSpeed's optimisers are of their own kind, and step without asking torch's hooks.
            self._can_skip = skip_bad_steps(optimizer, also=lambda: self._bad is not None)

    def before_train_iter(self, runner: FlexibleRunner, batch_idx: int, data_batch: Any = None) -> None:
        """Remember which samples are about to be used, and what the forward pass changes besides gradients."""
        self._samples = data_batch['data_samples']
        # Once a batch of an accumulation is bad, the state to go back to is the one from before it.
        if self._bad is None:
            # Running means and variances: small, and a NaN in them would outlive the skipped step.
            self._statistics = {name: value.clone() for name, value in statistics_of(self._places).items()}

    def after_train_iter(
        self, runner: FlexibleRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Count skipped steps; stop when there are too many in a row."""
        if not completes_update(runner):
            return  # gradients are still being gathered
        if self._bad is None and self._can_skip and overflowed(runner.optim_wrapper.optimizer):
            self._record(runner, 'gradient', samples=self._samples)
        if self._bad is None:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        record, self._bad = self._bad, None
        for name, buffer in statistics_of(self._places).items():
            buffer.copy_(self._statistics[name])
        if self._in_a_row >= self.patience:
            self._save(runner)
            self._stop(runner, record)
        runner.logger.warning(
            f'iteration {record["iteration"]} skipped: the {record["what"]} is not finite; its batch is in {NON_FINITE}'
        )

    def after_train(self, runner: FlexibleRunner) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def after_stop(self, runner: FlexibleRunner) -> None:
        """Stop listening."""
        self.after_train(runner)

    def _check_losses(self, runner: FlexibleRunner, task: nn.Module, inputs: Any, losses: Any) -> None:
        if not (task.training and isinstance(losses, dict)):
            return
        self._losses = {name: _mean(value) for name, value in losses.items()}
        # As mmengine sums what it differentiates: entries named loss; accuracies are only logged.
        total = torch.stack([value for name, value in self._losses.items() if 'loss' in name]).sum()
        mine = ~torch.isfinite(total)
        # Every process has to know, or the others would wait for this one in the next reduction.
        anyone = mine.to(torch.int32)
        all_reduce(anyone, 'max')
        if anyone.item() and self._bad is None:
            spoiled = sorted(
                {name for share in all_gather_object(spoiled_parameters(task)) for name in share}
            )
            self._record(
                runner,
                'parameter' if spoiled else 'loss',
                samples=self._samples if mine.item() else [],
                parameters=spoiled,
            )
            # Skipping mends no weights; and the next state that is saved would hold them.
            if spoiled or not self._can_skip:
                self._stop(runner, self._bad)

    def _check_gradients(
        self, runner: FlexibleRunner, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any
    ) -> None:
        parameters = [p for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        if self._bad is None and parameters:
            # Which parameter it was is looked up only when it happened.
            if not math.isfinite(_norm(runner, [parameter.grad for parameter in parameters])):
                # DDP has averaged: every process sees the same and skips, too.
                named = task_of(runner).named_parameters()
                bad = [name for name, p in named if p.grad is not None and not torch.isfinite(p.grad).all()]
                self._record(runner, 'gradient', samples=self._samples, parameters=bad)
        if self._bad is not None:
            # An optimiser passes over parameters without gradient: no decay, no moments.
            for parameter in parameters:
                parameter.grad = None

    def _record(
        self, runner: FlexibleRunner, what: str, *, samples: list[Any], parameters: list[str] | None = None
    ) -> None:
        self._bad = dict(
            what=what,
            iteration=runner.iter + 1,
            # as text: JSON has no NaN
            parts={name: f'{value.item():.6g}' for name, value in self._losses.items()},
            parameters=parameters or [],
            samples=[sample for share in all_gather_object(describe(samples)) for sample in share],
        )
        if is_main_process():
            with open(Path(runner.log_dir) / NON_FINITE, 'a', encoding='utf-8') as file:
                file.write(json.dumps(self._bad, ensure_ascii=False) + '\n')

    def _save(self, runner: FlexibleRunner) -> None:
        """The weights are sound: the run can go on from here with the next batch."""
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                hook.save_now(runner)

    def _stop(self, runner: FlexibleRunner, record: dict[str, Any] | None) -> None:
        assert record is not None
        parameters, parts = record['parameters'], ', '.join(f'{k}={v}' for k, v in record['parts'].items())
        where = f' in {len(parameters)} parameters, first {parameters[0]}' if parameters else ''
        again = f', {self._in_a_row} in a row' if self._in_a_row > 1 else ''
        first = record['samples'][0] if record['samples'] else {}
        raise NonFiniteLossError(
            f'the {record["what"]} is not finite at iteration {record["iteration"]}{again}{where} ({parts}). The batch '
            f'of {len(record["samples"])} samples (first: {first.get("dataset")}[{first.get("index")}], '
            f'{first.get("path") or "no file"}) is listed in {Path(runner.log_dir) / NON_FINITE}. '
            + _WAY_OUT[record['what']]
        )


def _norm(runner: FlexibleRunner, gradients: list[Tensor]) -> float:
    """Norm of all gradients: the one that clipping has just measured, else one fused norm and one transfer."""
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, OptimWrapper) and (wrapper.clip_grad_kwargs or {}).get('max_norm'):
        return wrapper.message_hub.get_scalar(f'train/{wrapper.grad_name}').current()
    norm = torch.nn.utils.get_total_norm(gradients)
    # FSDP's is a sum that its processes have not yet exchanged.
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()


def spoiled_parameters(task: nn.Module) -> list[str]:
    """Names of parameters with a value that is not finite, on this process."""
    return [
        name for name, parameter in task.named_parameters() if not torch.isfinite(local_part(parameter)).all()
    ]


def _mean(value: Tensor | list[Tensor]) -> Tensor:
    """One number of a loss entry, which may be a list (one tensor per feature level)."""
    # mmengine takes the sum over the list: finite or not, it is the same.
    parts = value if isinstance(value, list) else [value]
    return torch.stack([part.detach().float().mean() for part in parts]).mean()
