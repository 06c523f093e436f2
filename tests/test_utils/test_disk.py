"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from internvl_mm.utils.disk import write_whole


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / 'page.html'
    write_whole(file, 'æ')
    write_whole(file, 'ø')
    assert file.read_text('utf-8') == 'ø'

    def fail(*_: object) -> None:
        raise OSError('the disk is gone')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match='the disk is gone'):
        write_whole(file, 'new')
    assert file.read_text('utf-8') == 'ø'
    assert [path.name for path in tmp_path.iterdir()] == ['page.html'], 'nothing unfinished stays'
