"""Arrays in a file come back as they were, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from internvl_mm.utils.errors import DataError
from internvl_mm.utils.kept_arrays import read_kept, write_kept

SIZES = np.random.default_rng(0).integers(1, 2000, (300, 2))


@pytest.mark.parametrize('compressed', [True, False])
def test_there_and_back_or_nothing(tmp_path: Path, compressed: bool) -> None:
    file = tmp_path / 'folder' / 'sizes.npz'
    assert read_kept(file, ['sizes']) is None
    write_kept(file, dict(sizes=SIZES, fill=0.5), compressed=compressed, remedy='choose another folder')
    kept = read_kept(file, ['sizes', 'fill'])
    assert kept is not None and np.array_equal(kept['sizes'], SIZES) and kept['fill'] == 0.5
    assert read_kept(file, ['other']) is None
    assert list(file.parent.iterdir()) == [file]


def test_no_damage_escapes(tmp_path: Path) -> None:
    file = tmp_path / 'sizes.npz'
    write_kept(file, dict(sizes=SIZES), compressed=True, remedy='')
    whole = file.read_bytes()
    for length in range(0, len(whole), 97):
        file.write_bytes(whole[:length])
        assert read_kept(file, ['sizes']) is None
    for place in range(0, len(whole), 13):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        kept = read_kept(file, ['sizes'])  # dates and the like may change without harm
        assert kept is None or np.array_equal(kept['sizes'], SIZES)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'text').touch()
    with pytest.raises(DataError, match=r'sizes\.npz cannot be written \(.*\): choose another folder'):
        write_kept(
            tmp_path / 'text' / 'sizes.npz', dict(a=SIZES), compressed=False, remedy='choose another folder'
        )
