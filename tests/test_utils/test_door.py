"""How commands end."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from internvl_mm.utils.door import run_door
from internvl_mm.utils.errors import DataError


def fail(error: BaseException) -> None:
    """Raise."""
    raise error


def test_exit_statuses(capsys: pytest.CaptureFixture) -> None:
    assert run_door(lambda: 'anything') == 0
    assert run_door(lambda: 1) == 1
    assert run_door(lambda: fail(DataError('[x] is missing'))) == 2
    assert run_door(lambda: fail(KeyboardInterrupt())) == 130
    printed = capsys.readouterr()
    assert printed.err == '[x] is missing\ninterrupted\n'
    assert printed.out == ''


def test_the_unexpected_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_door(lambda: 1 / 0)


def test_a_full_disk_is_told_and_other_errors_of_the_system_are_not_hidden(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = str(tmp_path / 'not_there' / 'results.json')
    assert run_door(lambda: fail(OSError(errno.ENOSPC, 'No space left on device', file))) == 2
    assert run_door(lambda: fail(OSError(errno.EDQUOT, 'Disk quota exceeded'))) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f'{file} was not written: the disk is full (') and '--work-dir' in first
    assert second.startswith('a file was not written: the disk is full. ')
    with pytest.raises(PermissionError):
        run_door(lambda: fail(PermissionError(errno.EACCES, 'Permission denied', file)))


class Broken(Dataset):
    """Its only sample cannot be read."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        raise DataError('a.png: truncated\nrepair it')


def test_a_worker_process_adds_no_traceback(capsys: pytest.CaptureFixture) -> None:
    loader = DataLoader(Broken(), num_workers=1)
    assert run_door(lambda: next(iter(loader))) == 2
    assert capsys.readouterr().err == 'a.png: truncated\nrepair it\n'
