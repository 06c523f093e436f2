"""Lists of conversations to batches: padded to rows, or packed into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from internvl_mm.registry import FUNCTIONS
from internvl_mm.structures import IGNORE, BadSample, ChatBatch, ChatSample
from internvl_mm.utils.errors import DataError


@FUNCTIONS.register_module()
def collate_chat(items: list[dict[str, Any] | BadSample]) -> dict[str, Any]:
    """Pad conversations at the right to the longest one.

    Args:
        items: What a chat data set gives: ``dict(inputs=ChatSample)``, with ``bad_samples`` where another sample was
            taken instead, or a :class:`BadSample`.

    Returns:
        ``dict(inputs=ChatBatch, data_samples=list[ChatSample], bad_samples=list[BadSample])``; the samples, for
        messages, without their tensors.

    Raises:
        DataError: No sample of the batch is usable.
    """
    samples, bad = _sort_out(items)
    # [L] each; what padding is follows from these and not from ids, of which 0 is a token of some vocabularies.
    ids = [torch.full((len(sample),), number) for number, sample in enumerate(samples)]
    batch = ChatBatch(
        input_ids=_pad([sample.input_ids for sample in samples], 0),  # [B, L], as the next three
        labels=_pad([sample.labels for sample in samples], IGNORE),
        position_ids=_pad([torch.arange(len(sample)) for sample in samples], 0),
        sample_ids=_pad(ids, -1),
        **_tiles(samples),
    )
    return dict(inputs=batch, data_samples=[_headline(sample) for sample in samples], bad_samples=bad)


@FUNCTIONS.register_module()
def collate_packed(items: list[dict[str, Any] | BadSample], *, length: int | None = None) -> dict[str, Any]:
    """Put the samples of packs one after the other into one row.

    Args:
        items: What a packed data set gives: ``dict(inputs=list[ChatSample])``.
        length: Pad the row to so many tokens per pack, so that every step has one shape (compiled models); the padding
            is a segment of its own.

    Returns:
        As :func:`collate_chat`; the rows of ``inputs`` are one.

    Raises:
        DataError: No sample of the batch is usable, or a pack is longer than ``length``.
    """
    samples, bad = _sort_out(items)
    sizes = torch.tensor([len(sample) for sample in samples])
    total = int(sizes.sum())
    # Of all packs together, because they become one row.
    missing = 0 if length is None else length * len(items) - total
    if missing < 0:
        raise DataError(f'{len(items)} packs have {total} tokens, more than length={length} allows for each')
    ends = [*sizes.tolist(), missing] if missing else sizes.tolist()
    row = dict(
        input_ids=_row([sample.input_ids for sample in samples], missing, 0),
        labels=_row([sample.labels for sample in samples], missing, IGNORE),
        # From 0 in every sample, so that packing changes nothing of what it computes.
        position_ids=_row([torch.arange(size) for size in sizes.tolist()], missing, 0),
        sample_ids=_row([torch.repeat_interleave(torch.arange(len(samples)), sizes)], missing, -1),
    )
    # int32, which the kernels of flash attention require
    cu_seqlens = torch.tensor([0, *ends]).cumsum(0).int()  # [N+1]; [N+2] with padding
    # One row whatever the number of packs: attention works segment by segment, and nothing has to be padded.
    batch = ChatBatch(**row, **_tiles(samples), cu_seqlens=cu_seqlens)
    return dict(inputs=batch, data_samples=[_headline(sample) for sample in samples], bad_samples=bad)


def _sort_out(items: list[dict[str, Any] | BadSample]) -> tuple[list[ChatSample], list[BadSample]]:
    good = [item for item in items if not isinstance(item, BadSample)]
    bad = [item for item in items if isinstance(item, BadSample)]
    bad += [sample for item in good for sample in item.get('bad_samples', ())]
    inputs = [item['inputs'] for item in good]
    samples = [sample for part in inputs for sample in (part if isinstance(part, list) else [part])]
    if not samples:
        reasons = ''.join(f'\n  {sample.dataset}[{sample.index}]: {sample.reason}' for sample in bad[:3])
        raise DataError(
            f'all {len(bad)} conversations of a batch are bad, the first ones:{reasons}\n'
            'Check the roots of the meta file with tools/check_data.py'
        )
    return samples, bad


def _tiles(samples: Sequence[ChatSample]) -> dict[str, Tensor]:
    sizes = sorted({tuple(sample.tiles.shape[1:]) for sample in samples})
    if len(sizes) > 1:
        raise DataError(f'tiles of one batch differ in size: {", ".join(map(str, sizes))}; use one tile size')
    return dict(
        tiles=torch.cat([sample.tiles for sample in samples]),  # [M, 3, S, S]
        num_tiles=torch.tensor([len(sample.tiles) for sample in samples]),  # [N]
    )


def _headline(sample: ChatSample) -> ChatSample:
    """Where a sample is from, without the tensors that the batch already holds."""
    nothing = torch.empty(0, dtype=torch.long)
    return ChatSample(
        # A slice alone would keep the storage of all tiles, and send it along from a worker.
        tiles=sample.tiles[:0].clone(),
        num_tiles=sample.num_tiles,
        input_ids=nothing,
        labels=nothing,
        dataset=sample.dataset,
        index=sample.index,
        path=sample.path,
    )


def _pad(rows: list[Tensor], value: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)


def _row(parts: list[Tensor], missing: int, value: int) -> Tensor:
    # [1, total]: packed batches keep the dimension of rows.
    return torch.cat([*parts, torch.full((missing,), value)])[None]
