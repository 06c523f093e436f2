"""One training step: batch to new weights, and what happens when the batch does not fit into memory."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from internvl_mm.registry import STEPS
from internvl_mm.structures import name_samples
from internvl_mm.utils.console import console
from internvl_mm.utils.errors import UserError

Batch = dict[str, Any]
SHOWN = 8  # samples named in an error


class BatchTooLargeError(UserError):
    """A training step that ran out of memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator had no memory left; that of the CPU raises a plain RuntimeError."""
    # torch's class covers CUDA and other accelerators.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


@STEPS.register_module()
class PlainStep:
    """Forward, backward and update of a batch.

    Raises:
        BatchTooLargeError: Out of memory; names the samples and what to change.
    """

    def __call__(self, model: Any, batch: Batch, optim_wrapper: Any) -> dict[str, Tensor]:
        """Take the step; gives losses and other numbers for the log."""
        try:
            return model.train_step(batch, optim_wrapper=optim_wrapper)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise too_large(batch, error) from error


@STEPS.register_module()
class HalvingStep(PlainStep):
    """Takes a batch that does not fit into memory in two halves, once, with the gradient of the whole.

    For one process and one batch per update: elsewhere the other processes, or gradients of earlier batches, are in the
    middle of something. The task has to offer :meth:`~internvl_mm.models.tasks.BaseTask.halves`. Layers that draw at
    random (drop path) draw anew.

    Raises:
        BatchTooLargeError: The batch cannot be halved, or half of it does not fit either.
    """

    def __call__(self, model: Any, batch: Batch, optim_wrapper: Any) -> dict[str, Tensor]:
        """See :class:`PlainStep`."""
        try:
            return model.train_step(batch, optim_wrapper=optim_wrapper)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failed = error
        # Outside the handler: its traceback holds the tensors of the failed step.
        problem = too_large(batch, failed)
        del failed
        parts = _halves(model, batch, optim_wrapper)
        if parts is None:
            raise problem
        console.print(
            f'out of memory: {len(batch["data_samples"])} samples taken in two halves', style='yellow'
        )
        try:
            return _in_parts(model, parts, optim_wrapper)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise too_large(batch, error) from error


def _halves(model: Any, batch: Batch, optim_wrapper: Any) -> list[tuple[float, Batch]] | None:
    plain = isinstance(model, nn.Module) and isinstance(optim_wrapper, OptimWrapper)
    if not plain or get_world_size() > 1 or getattr(optim_wrapper, '_accumulative_counts', 1) > 1:
        return None
    # What the failed step left: half a gradient, and memory that the allocator holds back.
    optim_wrapper.zero_grad()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    # Mixing pairs the images of a batch: before they are parted.
    return model.halves(**model.data_preprocessor(batch, True))


def _in_parts(model: Any, parts: list[tuple[float, Batch]], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
    logged: dict[str, Tensor] = {}
    for share, part in parts:
        with optim_wrapper.optim_context(model):
            loss, numbers = model.parse_losses(model(**part, mode='loss'))
        # The loss of the whole is the mean of those of its parts, weighted; so is the gradient.
        optim_wrapper.backward(loss * share)
        for name, value in numbers.items():
            logged[name] = logged.get(name, torch.zeros_like(value)) + share * value.detach()
    optim_wrapper.step()
    optim_wrapper.zero_grad()
    return logged


def too_large(batch: Batch, error: BaseException) -> BatchTooLargeError:
    """The error of a batch that does not fit: its samples, and the three settings that help most."""
    samples = batch['data_samples']
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return BatchTooLargeError(
        f'out of memory in a step of {len(samples)} samples: {name_samples(samples, SHOWN)} ({first}). Any of these '
        'helps: (1) lower train_dataloader.batch_size (of packed chat data: train_dataloader.dataset.max_tokens and '
        'max_tiles) and raise optim_wrapper.accumulative_counts as much; (2) recompute activations: '
        'model.backbone.gradient_checkpointing=True, of chat models model.language.checkpointing=True; (3) share or '
        'offload states: a strategy of configs/_base_/strategies from zero1 to zero3_offload. The batch alone may be '
        'the odd one: train_cfg.step=dict(type=HalvingStep) takes it in two halves. Weights are those of the last '
        'checkpoint: go on with --resume'
    )
