"""How commands end."""

from __future__ import annotations

import pytest

from internvl_mm.utils.door import run_door
from internvl_mm.utils.errors import DataError


def fail(error: BaseException) -> None:
    """Raise."""
    raise error


def test_exit_statuses(capsys: pytest.CaptureFixture) -> None:
    assert run_door(lambda: 'anything') == 0
    assert run_door(lambda: fail(DataError('[x] is missing'))) == 2
    assert run_door(lambda: fail(KeyboardInterrupt())) == 130
    printed = capsys.readouterr()
    assert printed.err == '[x] is missing\ninterrupted\n'
    assert printed.out == ''


def test_the_unexpected_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_door(lambda: 1 / 0)
