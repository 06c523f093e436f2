"""Conversations side by side and one after the other."""

from __future__ import annotations

import pickle

import pytest
import torch

from internvl_mm.data.collate_chat import collate_chat, collate_packed
from internvl_mm.structures import IGNORE, BadSample, ChatSample
from internvl_mm.utils.errors import DataError

BAD = BadSample('toy', 3, 'c.jsonl:4', 'broken')


def sample(length: int, tiles: int, *, size: int = 2) -> ChatSample:
    ids = torch.arange(length)  # token 0 is a token like any other
    labels = torch.where(ids % 2 == 1, ids, IGNORE)
    pixels = torch.full((tiles, 3, size, size), length, dtype=torch.uint8)
    return ChatSample(pixels, (tiles,) if tiles else (), ids, labels, 'toy', length, f'c.jsonl:{length}')


def test_padded_rows() -> None:
    items = [dict(inputs=sample(2, 1)), BAD, dict(inputs=sample(4, 0), bad_samples=[BAD])]
    batch = collate_chat(items)
    inputs = batch['inputs']
    assert inputs.input_ids.tolist() == [[0, 1, 0, 0], [0, 1, 2, 3]]
    assert inputs.labels.tolist() == [[IGNORE, 1, IGNORE, IGNORE], [IGNORE, 1, IGNORE, 3]]
    assert inputs.position_ids.tolist() == [[0, 1, 0, 0], [0, 1, 2, 3]]
    assert inputs.attention_mask.tolist() == [[True, True, False, False], [True] * 4]
    assert (inputs.num_tiles.tolist(), inputs.tiles.shape) == ([1, 0], (1, 3, 2, 2))
    assert (inputs.cu_seqlens, inputs.num_tokens, len(inputs)) == (None, 6, 2)
    assert inputs.label_counts.tolist() == [1, 2]
    assert batch['bad_samples'] == [BAD, BAD]
    assert [(info.index, info.path) for info in batch['data_samples']] == [(2, 'c.jsonl:2'), (4, 'c.jsonl:4')]


@pytest.mark.parametrize('length', [None, 8])
def test_packed_rows(length: int | None) -> None:
    items = [dict(inputs=[sample(2, 1), sample(3, 0)]), dict(inputs=[sample(4, 2)])]
    inputs = collate_packed(items, length=length)['inputs']
    pad = 0 if length is None else 7
    assert inputs.input_ids.tolist() == [[0, 1, 0, 1, 2, 0, 1, 2, 3] + [0] * pad]
    assert inputs.position_ids.tolist() == inputs.input_ids.tolist()
    assert inputs.sample_ids.tolist() == [[0, 0, 1, 1, 1, 2, 2, 2, 2] + [-1] * pad]
    assert inputs.labels[0, 9:].tolist() == [IGNORE] * pad
    assert inputs.cu_seqlens.tolist() == [0, 2, 5, 9] + [16] * bool(pad)
    assert inputs.cu_seqlens.dtype == torch.int32
    assert inputs.num_tiles.tolist() == [1, 0, 2]
    assert inputs.tiles[:, 0, 0, 0].tolist() == [2, 4, 4]
    assert inputs.label_counts.tolist() == [1, 1, 2]


def test_batches_move_and_travel() -> None:
    inputs = collate_packed([dict(inputs=[sample(2, 1)])])['inputs']
    moved = pickle.loads(pickle.dumps(inputs)).to('meta')
    assert moved.tiles.device.type == moved.cu_seqlens.device.type == 'meta'
    assert collate_chat([dict(inputs=sample(2, 0))])['inputs'].to('cpu').cu_seqlens is None


def test_mistakes_are_told() -> None:
    for collate in (collate_chat, collate_packed):
        with pytest.raises(DataError, match=r'all 1 conversations of a batch are bad.*\n  toy\[3\]: broken'):
            collate([BAD])
    with pytest.raises(DataError, match='tiles of one batch differ in size'):
        collate_chat([dict(inputs=sample(2, 1)), dict(inputs=sample(2, 1, size=4))])
    with pytest.raises(DataError, match='1 packs have 5 tokens, more than length=4'):
        collate_packed([dict(inputs=[sample(5, 0)])], length=4)
