"""Chunked cross-entropy against torch's own: values, gradients, weights, precisions, memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from internvl_mm.models.losses.chunked_cross_entropy import LossHead, chunked_cross_entropy
from internvl_mm.structures import IGNORE
from internvl_mm.utils.errors import ConfigError

TOKENS, WIDTH, VOCABULARY = 37, 16, 101


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States, output matrix, labels of which a third are not learned, and weights."""
    draws = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=draws, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, WIDTH, generator=draws, dtype=torch.float64).to(dtype).requires_grad_()
    labels = torch.randint(VOCABULARY, (TOKENS,), generator=draws)
    labels[::3] = IGNORE
    return hidden, weight, labels, torch.rand(TOKENS, generator=draws)


def plain(hidden: Tensor, weight: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    losses = functional.cross_entropy(
        (hidden @ weight.T).float(), labels, ignore_index=IGNORE, reduction='none'
    )
    return (losses * weights).sum()


@pytest.mark.parametrize('chunk', [1, 5, 24, 1000])
@pytest.mark.parametrize(('dtype', 'close'), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_value_and_gradients_are_those_of_all_logits(chunk: int, dtype: torch.dtype, close: float) -> None:
    hidden, weight, labels, weights = problem(dtype)
    ours = chunked_cross_entropy(hidden, weight, labels, weights, chunk=chunk)
    theirs = plain(hidden, weight, labels, weights)
    torch.testing.assert_close(ours, theirs, atol=0, rtol=1e-5)
    wanted = torch.autograd.grad(3 * theirs, (hidden, weight))
    for gradient, right in zip(torch.autograd.grad(3 * ours, (hidden, weight)), wanted, strict=True):
        assert gradient.dtype == right.dtype
        assert (gradient - right).abs().max() <= close * right.abs().max()


def test_without_weights_every_token_counts_one() -> None:
    hidden, weight, labels, _ = problem(torch.float32)
    ours = chunked_cross_entropy(hidden, weight, labels)
    torch.testing.assert_close(ours, plain(hidden, weight, labels, torch.ones(TOKENS)))


def test_large_logits_do_not_overflow() -> None:
    hidden, weight, labels, weights = problem(torch.float32)
    loss = chunked_cross_entropy(1000 * hidden, weight, labels, weights)
    torch.testing.assert_close(loss, plain(1000 * hidden, weight, labels, weights))


def test_nothing_to_learn_is_zero_with_gradients_of_zero() -> None:
    hidden, weight, labels, _ = problem(torch.float32)
    loss = chunked_cross_entropy(hidden, weight, torch.full_like(labels, IGNORE))
    loss.backward()
    assert loss == 0 and not hidden.grad.any() and not weight.grad.any()


def test_a_frozen_matrix_gets_no_gradient() -> None:
    hidden, weight, labels, _ = problem(torch.float32)
    chunked_cross_entropy(hidden, weight.requires_grad_(False), labels).backward()
    assert hidden.grad is not None and weight.grad is None


def test_autocast_computes_in_half_and_returns_the_dtypes_of_the_parameters() -> None:
    hidden, weight, labels, weights = problem(torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        ours = chunked_cross_entropy(hidden, weight, labels, weights, chunk=8)
        theirs = plain(hidden, weight, labels, weights)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, atol=0, rtol=1e-2)
    gradients = torch.autograd.grad(ours, (hidden, weight))
    assert {gradient.dtype for gradient in gradients} == {torch.float32}


def test_never_more_logits_than_those_of_a_chunk() -> None:
    hidden, weight, labels, weights = problem(torch.float32)
    sizes: list[int] = []

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.ndim == 2 and result.shape[1] == VOCABULARY:
                sizes.append(len(result))
            return result

    with Sizes():
        chunked_cross_entropy(hidden, weight, labels, weights, chunk=4).backward()
    assert max(sizes) <= max(4, WIDTH)  # the transposed matrix has WIDTH rows


def test_a_second_backward_pass_is_refused() -> None:
    hidden, weight, labels, _ = problem(torch.float32)
    loss = chunked_cross_entropy(hidden, weight, labels)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match='for one backward pass'):
        loss.backward()


def test_chunks_have_tokens() -> None:
    with pytest.raises(ConfigError, match='chunk=0'):
        chunked_cross_entropy(*problem(torch.float32), chunk=0)


def test_head_shares_its_weight_and_gives_logits_or_the_loss() -> None:
    plain_head = nn.Linear(WIDTH, VOCABULARY, bias=False)
    head = LossHead.of(plain_head, chunk=5)
    assert head.weight is plain_head.weight
    states, labels = torch.randn(2, 9, WIDTH), torch.randint(VOCABULARY, (2, 9))
    logits = head(states)
    torch.testing.assert_close(logits, plain_head(states))
    wanted = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction='sum')
    torch.testing.assert_close(head(states, labels), wanted)


def test_log_probabilities_and_their_gradients() -> None:
    hidden, weight, labels, weights = problem(torch.float32)
    head = LossHead.of(nn.Linear(WIDTH, VOCABULARY, bias=False), chunk=5)
    head.weight = nn.Parameter(weight.detach())
    ours = head.log_probabilities(hidden, labels)
    assert not ours[labels == IGNORE].any()
    [gradient] = torch.autograd.grad((ours * weights).sum(), hidden)
    [right] = torch.autograd.grad(-plain(hidden, head.weight, labels, weights), hidden)
    torch.testing.assert_close(gradient, right)
