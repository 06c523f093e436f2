"""Cross-entropy over a large vocabulary without holding all logits, with exact gradients.

Shape letters: N tokens, H width, V vocabulary, c tokens of a chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from internvl_mm.structures.chat import IGNORE
from internvl_mm.utils.checks import check_counts

CHUNK = 1024  # tokens; [1024, 151k] of fp32 are 0.6 GB, and the matrix products are already large enough


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, token_weights: Tensor | None = None, *, chunk: int = CHUNK
) -> Tensor:
    """Sum over tokens of weight times cross-entropy, in fp32.

    The gradients are computed together with the loss, chunk by chunk, so that nothing is computed twice and at most
    ``[c, V]`` numbers exist at once. Tokens that are not learned cost nothing.

    Args:
        hidden: Last states ``[N, H]``.
        weight: Output matrix ``[V, H]``.
        labels: Ids ``[N]`` of the tokens to predict, -100 where nothing is learned.
        token_weights: Weight of every token ``[N]``; 1 when left out.
        chunk: Tokens at once.

    Returns:
        A number; one backward pass through it is possible.
    """
    check_counts(chunk=chunk)
    kept = labels != IGNORE
    weights = torch.ones_like(labels, dtype=torch.float32) if token_weights is None else token_weights.float()
    dtype = hidden.dtype
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
    # The casts are outside, so that gradients come back in the dtypes of the parameters.
    # [n, H], [V, H], [n] and [n], of the n tokens that are learned.
    parts = (hidden[kept].to(dtype), weight.to(dtype), labels[kept], weights[kept])
    return _ChunkedCrossEntropy.apply(*parts, chunk)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradients of all chunks in the forward pass; the backward pass only scales them."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, token_weights: Tensor, chunk: int
    ) -> Tensor:
        """Loss and, chunk by chunk, the gradients that ``backward`` scales."""
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.zeros_like(hidden) if wants_hidden else None
        # Sums over chunks in fp32: adding halves would lose what one product over all tokens keeps.
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), chunk):
                part = slice(start, start + chunk)
                loss, grad_logits = _one_chunk(hidden[part], weight, labels[part], token_weights[part])
                total += loss
                if grad_hidden is not None:
                    # [c, V] @ [V, H], straight into its slice.
                    torch.mm(grad_logits, weight, out=grad_hidden[part])
                if grad_weight is not None:
                    _add_product(grad_weight, grad_logits, hidden[part])
        ctx.gradients, ctx.weight_dtype = (grad_hidden, grad_weight), weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what ``forward`` kept."""
        if ctx.gradients is None:
            raise RuntimeError('chunked_cross_entropy keeps its gradients for one backward pass')
        # In place, because a second [V, H] would cost more than all chunks: so they are given away.
        grad_hidden, grad_weight = (None if part is None else part.mul_(grads[0]) for part in ctx.gradients)
        ctx.gradients = None
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(ctx.weight_dtype),
            None,
            None,
            None,
        )


def _one_chunk(
    hidden: Tensor, weight: Tensor, labels: Tensor, token_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss of ``[c, H]`` and the gradient of the logits ``[c, V]``, in the dtype of ``hidden``."""
    logits = (hidden @ weight.T).float()  # [c, V]
    index, weights = labels[:, None], token_weights[:, None]  # [c, 1] each
    right = logits.gather(1, index)  # [c, 1]
    largest = logits.amax(dim=1, keepdim=True)
    # One buffer from here on: logits, exponentials, probabilities, gradients.
    exponentials = logits.sub_(largest).exp_()
    norm = exponentials.sum(dim=1, keepdim=True)  # [c, 1]
    # log-sum-exp minus the right logit, which was read before the buffer changed.
    loss = ((norm.log() + largest - right) * weights).sum()
    # Of the logits: weight · (softmax - one-hot).
    gradient = exponentials.mul_(weights / norm).scatter_add_(1, index, -weights)
    return loss, gradient.to(hidden.dtype)


def _add_product(total: Tensor, grad_logits: Tensor, hidden: Tensor) -> None:
    """Add ``[c, V]ᵀ @ [c, H]`` to the fp32 ``total``."""
    # addmm_ needs no second [V, H], but takes one dtype only.
    if hidden.dtype == torch.float32:
        total.addmm_(grad_logits.T, hidden)
    else:
        total.add_(grad_logits.T @ hidden)


class LossHead(nn.Linear):
    """The output matrix of a language model, which can also give the loss.

    The loss is part of its ``forward`` because sharded training (ZeRO-3) has a module's weight only there.
    """

    chunk: int = CHUNK

    @classmethod
    def of(cls, head: nn.Linear, *, chunk: int = CHUNK) -> LossHead:
        """The same head, with the very same parameter."""
        # On meta, because a [V, H] of its own would be thrown away at once.
        made = cls(head.in_features, head.out_features, bias=False, device='meta')
        made.weight, made.chunk = head.weight, chunk
        return made

    def forward(
        self, input: Tensor, labels: Tensor | None = None, token_weights: Tensor | None = None
    ) -> Tensor:
        """Logits ``[…, V]`` of states ``[…, H]``; with labels ``[…]``, :func:`chunked_cross_entropy` of all tokens."""
        if labels is None:
            return super().forward(input)
        weights = None if token_weights is None else token_weights.flatten()
        return chunked_cross_entropy(
            input.flatten(0, -2), self.weight, labels.flatten(), weights, chunk=self.chunk
        )

    def log_probabilities(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Log-probability of each label ``[N]`` given states ``[N, H]``, chunk by chunk, 0 where nothing is learned.

        Each may have a gradient of its own, so chunks are computed again in the backward pass.
        """
        parts = [
            checkpoint(self._log_probabilities, states, ids, use_reentrant=False)
            for states, ids in zip(hidden.split(self.chunk), labels.split(self.chunk))
        ]
        return torch.cat(parts)

    def _log_probabilities(self, hidden: Tensor, labels: Tensor) -> Tensor:
        logits = self(hidden).float()  # [c, V]
        return -nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction='none')
