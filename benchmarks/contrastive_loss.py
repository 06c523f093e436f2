"""Peak memory and time of our chunked InfoNCE at a global batch of 8,192 pairs against open_clip's loss.

One process holds the whole batch, as one of R processes holds its share of the rows. The peer, open_clip's
``ClipLoss``, holds both matrices of similarities at once. Width 768 on GPUs, 64 on CPUs. The gate: losses agree within
1e-5, gradients within 1e-4 of the largest value. Memory is what forward and backward pass add to the embeddings, their
gradients included.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from open_clip.loss import ClipLoss
from torch import Tensor
from torch.nn import functional

from benchmarks.harness import ExtraMemory, Row, compare, in_new_process, interleave, processor_clock
from internvl_mm.models.losses.contrastive import info_nce

PAIRS = 8192
CHUNK = 512  # rows of similarities held at a time: 16 MiB
SCALE = 1 / 0.07
MEMORY_GOAL, SPEED_GOAL = 4.0, 0.6  # how many times less memory; speed relative to open_clip's


def inputs() -> tuple[Tensor, Tensor]:
    """Embeddings of images and texts ``[8192, E]``."""
    torch.manual_seed(0)
    device, width = ('cuda', 768) if torch.cuda.is_available() else ('cpu', 64)
    images, texts = (torch.randn(PAIRS, width, device=device) for _ in range(2))
    return images.requires_grad_(), texts.requires_grad_()


def ours(images: Tensor, texts: Tensor) -> Tensor:
    """Chunk by chunk."""
    return info_nce(images, texts, images.new_tensor(SCALE), chunk=CHUNK)


def open_clip(images: Tensor, texts: Tensor) -> Tensor:
    """All similarities, both ways."""
    return ClipLoss()(functional.normalize(images, dim=-1), functional.normalize(texts, dim=-1), SCALE)


LOSSES: dict[str, Callable] = dict(ours=ours, open_clip=open_clip)


def step(name: str, parts: tuple[Tensor, Tensor]) -> None:
    """Forward and backward; gradients are dropped."""
    LOSSES[name](*parts).backward()
    for part in parts:
        part.grad = None


def gate(parts: tuple[Tensor, Tensor]) -> None:
    """Stop unless losses and gradients agree."""
    found = {}
    for name, loss in LOSSES.items():
        value = loss(*parts)
        found[name] = (value.detach(), *torch.autograd.grad(value, parts))
    for number, (mine, theirs) in enumerate(zip(found['ours'], found['open_clip'], strict=True)):
        error = ((mine - theirs).abs().max() / theirs.abs().max()).item()
        if error > (1e-4 if number else 1e-5):
            raise AssertionError(f"output {number} differs from open_clip's loss by {error:.1e}")


def peak(name: str) -> float:
    """GiB that one step adds; on CPUs in a process of its own, whose highest memory the system counts."""
    if torch.cuda.is_available():
        parts = inputs()
        step(name, parts)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(name, parts)
        return (torch.cuda.max_memory_allocated() - before) / 2**30
    # glibc raises its threshold for returning freed memory to the system as blocks are freed, and then counts what it
    # keeps: with a fixed one the highest memory is what tensors held.
    os.environ['MALLOC_MMAP_THRESHOLD_'] = str(2**20)
    return in_new_process(_peak_of_process, name)


def _peak_of_process(name: str) -> float:
    parts = inputs()
    # The first step on few rows also loads what libraries load once.
    step(name, tuple(part[:64].detach().requires_grad_() for part in parts))
    with ExtraMemory() as extra:
        step(name, parts)
    return extra.bytes / 2**30


def run(quick: bool = False) -> list[Row]:
    """Memory, then time."""
    torch.set_num_threads(1)
    parts = inputs()
    gate(parts)
    what = f'{PAIRS:,} pairs, width {parts[0].shape[1]}'
    mine, theirs = peak('ours'), peak('open_clip')
    ratio = theirs / mine
    note = f'chunks of {CHUNK} rows'
    rows = [Row(f'peak {what}', 'open_clip', mine, theirs, 'GiB', ratio, ratio, ratio, MEMORY_GOAL, note)]
    contestants = {name: lambda name=name: step(name, parts) for name in LOSSES}
    seconds = interleave(contestants, rounds=2 if quick else 9, warmup=1, clock=processor_clock)
    return [*rows, compare(f'forward+backward {what}', seconds, 'open_clip', goal=SPEED_GOAL, note=note)]
