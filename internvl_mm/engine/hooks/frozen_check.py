"""Says what trains and makes sure that the rest does not change."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner
from torch import Tensor, nn

from internvl_mm.registry import HOOKS
from internvl_mm.utils.errors import ConfigError
from internvl_mm.utils.parameters import local_part, numel

from ._runner import task_of

# Bytes per value to the integer type of that size: sums of floats would round, and NaN differs from itself.
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@HOOKS.register_module()
class FrozenCheckHook(Hook):
    """Logs what trains and what is frozen; what is frozen must be bit-identical at every validation and at the end.

    The check sums the bits of each parameter as integers on its device: exact, one pass, no copy.

    Raises:
        ConfigError: Nothing is trainable.
        RuntimeError: A frozen parameter changed.
    """

    def __init__(self) -> None:
        self._sums: dict[str, int] = {}

    def before_train(self, runner: FlexibleRunner) -> None:
        """Count, and remember the frozen parameters."""
        task = task_of(runner)
        counts = count_parameters(task)
        for part, (trainable, frozen) in counts.items():
            runner.logger.info(f'{part}: {trainable:,} parameters train, {frozen:,} are frozen')
        if not any(trainable for trainable, _ in counts.values()):
            raise ConfigError(
                f'no parameter of {type(task).__name__} is trainable (parts: {", ".join(counts) or "none"}): unfreeze '
                'one, e.g. model.backbone.frozen=None, or use tools/test.py, which does not train'
            )
        # 8 bytes per parameter tensor instead of a copy of what may be 6 billion values.
        self._sums = _bit_sums(task)

    def before_val(self, runner: FlexibleRunner) -> None:
        """Compare with what training started from."""
        self._compare(runner)

    def after_train(self, runner: FlexibleRunner) -> None:
        """Compare with what training started from."""
        self._compare(runner)

    def _compare(self, runner: FlexibleRunner) -> None:
        if not self._sums:
            return
        now = _bit_sums(task_of(runner))
        # One that trains now is not among the sums: counted as changed, too.
        changed = [name for name, total in self._sums.items() if now.get(name) != total]
        if changed:
            raise RuntimeError(
                f'{len(changed)} frozen parameters changed since training began, first {changed[0]}: something other '
                'than the optimiser writes to them, or they were frozen or unfrozen after before_train'
            )


def count_parameters(task: nn.Module) -> dict[str, tuple[int, int]]:
    """Trainable and frozen parameters of each part (direct child) of a task that has any."""
    counts = {}
    for name, part in task.named_children():
        sizes = [(numel(p), p.requires_grad) for p in part.parameters()]
        if sizes:
            counts[name] = (
                sum(n for n, trains in sizes if trains),
                sum(n for n, trains in sizes if not trains),
            )
    return counts


def _bit_sums(task: nn.Module) -> dict[str, int]:
    """Sum of the bits, read as integers, of each frozen parameter (of this process's shard under ZeRO-3)."""
    sums: dict[str, Tensor] = {}
    for name, parameter in task.named_parameters():
        if not parameter.requires_grad:
            data = local_part(parameter).detach().contiguous()
            # int64 may wrap around, which changes nothing: equal bits give equal sums.
            sums[name] = data.view(-1).view(_INTEGERS[data.element_size()]).sum(dtype=torch.int64)
    # one transfer from the device instead of one per parameter
    return dict(zip(sums, torch.stack(list(sums.values())).tolist(), strict=True)) if sums else {}
