"""What the terminal shows, and a file does not."""

from __future__ import annotations

import pytest

from internvl_mm.utils import console as terminal
from internvl_mm.utils.console import progress_bar, track


def test_bars_leave_nothing_in_a_file(capsys: pytest.CaptureFixture) -> None:
    assert list(track([1, 2], 'counting')) == [1, 2]
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(('rank', 'disabled'), [(None, False), ('0', False), ('1', True)])
def test_one_process_shows_bars(monkeypatch: pytest.MonkeyPatch, rank: str | None, disabled: bool) -> None:
    monkeypatch.setattr(terminal.console, 'is_interactive', True)
    monkeypatch.setenv('RANK', rank) if rank else monkeypatch.delenv('RANK', raising=False)
    assert progress_bar().disable is disabled
