"""The one place that writes to the terminal: a shared rich console and progress bars."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

Item = TypeVar('Item')

# Both look up sys.stdout and sys.stderr when they write, so that redirection works.
# Verbatim: paths, answers of a model and errors may hold what rich would take for a style ([red]) or a picture (:cat:).
console = Console(markup=False, emoji=False)
error_console = Console(markup=False, emoji=False, stderr=True)


def progress_bar(*, transient: bool = True) -> Progress:
    """A progress display with count, elapsed and remaining time, of the first process.

    Silent when the terminal is not interactive.
    """
    # Every launcher's rank ends up in RANK. rich would print an empty line per bar into a file.
    shown = console.is_interactive and os.environ.get('RANK', '0') == '0'
    return Progress(
        TextColumn('{task.description}', markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=transient,
        disable=not shown,
    )


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """Iterate over ``items`` while showing progress.

    Args:
        items: What to iterate over.
        description: A short text before the bar.
        total: Number of items, when ``items`` has no length.
    """
    with progress_bar() as progress:
        yield from progress.track(items, description=description, total=total)


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows as a table; numbers are right aligned."""
    table = Table(title=title, title_justify='left')
    # Read twice, for the columns and for the cells; callers may hand over an iterator.
    rows = [list(row) for row in rows]
    for column, name in enumerate(header):
        numeric = all(isinstance(row[column], (int, float)) for row in rows)
        table.add_column(name, justify='right' if numeric else 'left', overflow='fold')
    for row in rows:
        table.add_row(*(f'{cell:.4g}' if isinstance(cell, float) else str(cell) for cell in row))
    console.print(table)
