from __future__ import annotations

import pytest
import torch

from internvl_mm.data.collate import collate_lists, collate_samples
from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import DataError

BAD = BadSample('digits', 3, 'a.png', 'truncated')
OTHER = BadSample('digits', 4, 'b.png', 'missing')


def test_good_samples_stay_in_order_and_bad_ones_are_put_aside():
    black, white = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    items = [
        dict(inputs=black, data_samples='s0'),
        BAD,
        dict(inputs=white, data_samples='s1', bad_samples=[OTHER]),
    ]
    batch = collate_samples(items)
    assert torch.equal(batch.pop('inputs'), torch.stack([black, white]))
    assert batch == dict(data_samples=['s0', 's1'], bad_samples=[BAD, OTHER])


def test_pictures_of_several_sizes_stay_apart():
    pictures = [torch.zeros(3, 2, 2), torch.zeros(3, 4, 2)]
    batch = collate_samples([dict(inputs=picture, data_samples=None) for picture in pictures])
    assert [picture.shape for picture in batch['inputs']] == [(3, 2, 2), (3, 4, 2)]


def test_lists_stay_lists():
    black = torch.zeros(3, 2, 2)
    items = [dict(inputs=black, data_samples='s0', bad_samples=[OTHER]), BAD]
    assert collate_lists(items) == dict(inputs=[black], data_samples=['s0'], bad_samples=[BAD, OTHER])
    with pytest.raises(DataError, match='all 1 samples of a batch are bad'):
        collate_lists([BAD])


def test_a_batch_without_good_samples_says_why():
    with pytest.raises(DataError, match=r'all 2 samples of a batch are bad(.|\n)*digits\[3\]: truncated'):
        collate_samples([BAD, OTHER])
