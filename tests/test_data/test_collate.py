from __future__ import annotations

import pytest

from internvl_mm.data.collate import collate_samples
from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import DataError

BAD = BadSample('digits', 3, 'a.png', 'truncated')
OTHER = BadSample('digits', 4, 'b.png', 'missing')


def test_good_samples_stay_in_order_and_bad_ones_are_put_aside():
    items = [dict(inputs=0, data_samples='s0'), BAD, dict(inputs=1, data_samples='s1', bad_samples=[OTHER])]
    batch = collate_samples(items)
    assert batch == dict(inputs=[0, 1], data_samples=['s0', 's1'], bad_samples=[BAD, OTHER])


def test_a_batch_without_good_samples_says_why():
    with pytest.raises(DataError, match=r'all 2 samples of a batch are bad(.|\n)*digits\[3\]: truncated'):
        collate_samples([BAD, OTHER])
