"""Peak memory and time of the chunked cross-entropy over a large vocabulary against plain cross-entropy.

On GPUs 16,384 tokens of InternLM2's vocabulary in bf16, width 2048. On CPUs an eighth of the tokens and of the chunk
in fp32, width 256: the ratio of logits to chunk is the same, the machine need not have 20 GiB. The gate: losses agree
within 1e-5, gradients within 1e-4 of the largest value (1e-2 in bf16). Memory is what forward and backward pass add to
hidden states and weight, the gradients of both included.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import ExtraMemory, Row, compare, in_new_process, interleave, processor_clock
from internvl_mm.models.losses.chunked_cross_entropy import chunked_cross_entropy

VOCABULARY = 92_553
ON_GPU = dict(tokens=16_384, width=2048, chunk=1024, dtype=torch.bfloat16)
ON_CPU = dict(tokens=2048, width=256, chunk=128, dtype=torch.float32)
MEMORY_GOAL, SPEED_GOAL = 4.0, 0.9  # how many times less memory; speed relative to plain


def settings() -> dict:
    """Sizes for the device there is."""
    return ON_GPU if torch.cuda.is_available() else ON_CPU


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, weight and labels."""
    torch.manual_seed(0)
    size = settings()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    hidden = torch.randn(size['tokens'], size['width'], device=device)
    weight = torch.randn(VOCABULARY, size['width'], device=device) * 0.02
    labels = torch.randint(VOCABULARY, (size['tokens'],), device=device)
    return hidden.to(size['dtype']).requires_grad_(), weight.to(size['dtype']).requires_grad_(), labels


def ours(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Mean loss, chunk by chunk."""
    return chunked_cross_entropy(hidden, weight, labels, chunk=settings()['chunk']) / len(labels)


def plain(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """Mean loss of all logits at once, in fp32 as transformers computes it."""
    return functional.cross_entropy((hidden @ weight.T).float(), labels)


LOSSES: dict[str, Callable] = {'ours': ours, 'plain': plain}


def step(name: str, parts: tuple[Tensor, Tensor, Tensor]) -> None:
    """Forward and backward; gradients are dropped."""
    LOSSES[name](*parts).backward()
    for part in parts[:2]:
        part.grad = None


def gate(parts: tuple[Tensor, Tensor, Tensor]) -> None:
    """Stop unless losses and gradients agree."""
    found = {}
    for name, loss in LOSSES.items():
        value = loss(*parts)
        found[name] = (value.detach(), *torch.autograd.grad(value, parts[:2]))
    allowed = 1e-2 if parts[0].dtype == torch.bfloat16 else 1e-4
    for number, (mine, theirs) in enumerate(zip(found['ours'], found['plain'], strict=True)):
        error = ((mine - theirs).abs().max() / theirs.abs().max()).item()
        if error > (allowed if number else 1e-5):
            raise AssertionError(f'output {number} differs from plain cross-entropy by {error:.1e}')


def peak(name: str) -> float:
    """GiB that one step adds; on CPUs in a process of its own, whose highest memory the system counts."""
    if torch.cuda.is_available():
        parts = inputs()
        step(name, parts)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(name, parts)
        return (torch.cuda.max_memory_allocated() - before) / 2**30
    return in_new_process(_peak_of_process, name)


def _peak_of_process(name: str) -> float:
    parts = inputs()
    with ExtraMemory() as extra:
        step(name, parts)
    return extra.bytes / 2**30


def run(quick: bool = False) -> list[Row]:
    """Memory, then time."""
    size = settings()
    what = f'{size["tokens"]:,} x {VOCABULARY:,}, width {size["width"]}'
    mine, theirs = peak('ours'), peak('plain')
    ratio = theirs / mine
    note = f'{mine / theirs:.2f} of plain; chunks of {size["chunk"]} tokens'
    rows = [Row(f'peak {what}', 'plain', mine, theirs, 'GiB', ratio, ratio, ratio, MEMORY_GOAL, note)]
    parts = inputs()
    gate(parts)
    contestants = {name: lambda name=name: step(name, parts) for name in LOSSES}
    seconds = interleave(contestants, rounds=2 if quick else 5, warmup=0, clock=processor_clock)
    return [*rows, compare(f'forward+backward {what}', seconds, 'plain', goal=SPEED_GOAL)]
