from __future__ import annotations

import json
from pathlib import Path

import pytest

from internvl_mm.data.ledger import Ledger
from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import DataError


def bad(index: int) -> BadSample:
    return BadSample('Ziffern', index, f'{index}.png', 'abgeschnitten – größer')


def test_each_bad_sample_is_one_line(tmp_path: Path):
    ledger = Ledger(tmp_path / 'bad_samples.jsonl')
    ledger.update([], 32)
    assert not ledger.path.exists()
    ledger.update([bad(1), bad(2)], 32)
    ledger.update([bad(2)], 32)  # met again in the next epoch
    lines = [json.loads(line) for line in ledger.path.read_text(encoding='utf-8').splitlines()]
    assert lines == [bad(1).as_dict(), bad(2).as_dict()]
    assert (ledger.num_bad, ledger.num_seen) == (3, 96)


def test_it_stops_above_the_rate_but_not_before_patience(tmp_path: Path):
    ledger = Ledger(tmp_path / 'bad.jsonl', max_fraction=0.1, patience=3)
    for index in range(3):
        ledger.update([bad(index)], 1)
    ledger.update([bad(3)], 37)  # 4 of 40 is exactly the rate
    with pytest.raises(
        DataError, match=r'5 of 41 samples are bad, more than max_fraction=0.1(.|\n)*bad.jsonl'
    ):
        ledger.update([bad(4)], 1)
    assert len(ledger.path.read_text(encoding='utf-8').splitlines()) == 5


def test_a_ledger_that_cannot_be_written_is_an_error(tmp_path: Path):
    ledger = Ledger(tmp_path / 'missing' / 'bad.jsonl')
    with pytest.raises(DataError, match='ledger of bad samples cannot be written'):
        ledger.update([bad(0)], 1)
