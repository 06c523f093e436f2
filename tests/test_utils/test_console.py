"""What the terminal shows, and a file does not."""

from __future__ import annotations

import pytest

from internvl_mm.utils import console as terminal
from internvl_mm.utils.console import print_table, progress_bar, track


def test_bars_leave_nothing_in_a_file(capsys: pytest.CaptureFixture) -> None:
    assert list(track([1, 2], 'counting')) == [1, 2]
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(('rank', 'disabled'), [(None, False), ('0', False), ('1', True)])
def test_one_process_shows_bars(monkeypatch: pytest.MonkeyPatch, rank: str | None, disabled: bool) -> None:
    monkeypatch.setattr(terminal.console, 'is_interactive', True)
    monkeypatch.setenv('RANK', rank) if rank else monkeypatch.delenv('RANK', raising=False)
    assert progress_bar().disable is disabled


def test_what_is_printed_is_printed_as_it_is(capsys: pytest.CaptureFixture) -> None:
    words = 'runs/[red]/a :cat: [/]'
    terminal.console.print(words)
    terminal.error_console.print(words)
    print_table(words, [words], [[words]])
    shown = capsys.readouterr()
    assert shown.err == f'{words}\n'
    assert shown.out.count(words) == 4
    with progress_bar() as bars:
        task = bars.add_task(words)
        assert str(bars.columns[0](bars.tasks[task])) == words
