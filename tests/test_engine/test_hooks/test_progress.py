"""A bar on terminals, nothing elsewhere."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from internvl_mm.engine.hooks import ProgressHook, ThroughputHook
from internvl_mm.engine.hooks.progress import _is_news
from internvl_mm.utils import console as terminal


@pytest.fixture
def screen(monkeypatch) -> io.StringIO:
    text = io.StringIO()
    monkeypatch.setattr(
        terminal, 'console', Console(file=text, force_terminal=True, force_interactive=True, width=160)
    )
    return text


def test_interactive(make_runner, screen):
    hook = ProgressHook()
    make_runner(ThroughputHook(), hook).train()
    shown = screen.getvalue()
    for part in ('3/3', 'loss', 'lr 1.00e-01', 'images/s'):
        assert part in shown
    assert hook._progress is None


def test_file_or_pipe(make_runner, monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(terminal, 'console', Console(file=text, force_terminal=False))
    make_runner(ProgressHook()).train()
    assert text.getvalue() == ''


def test_bar_replaces_lines_of_iterations_only():
    def record(text: str) -> logging.LogRecord:
        return logging.LogRecord('run', logging.INFO, '', 0, text, (), None)

    assert not _is_news(record('Epoch(train) [1][10/20]  loss: 1.0'))
    assert not _is_news(record('Iter(train) [10/20]  loss: 1.0'))
    assert _is_news(record('report: work_dirs/report.html'))
