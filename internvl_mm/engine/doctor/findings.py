"""The list of checks and how their outcomes are told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from internvl_mm.utils.errors import UserError

from . import faults, hardware, installation, runs

Verdict = Literal['ok', 'note', 'wrong']


@dataclass(frozen=True)
class Finding:
    """Outcome of a check.

    Attributes:
        check: What was looked at.
        verdict: ``'note'``: works, but is worth knowing.
        detail: What was found, and the way out if something is wrong.
        seconds: How long it took.
    """

    check: str
    verdict: Verdict
    detail: str
    seconds: float = 0.0


# A check gives what it found. It raises UserError for what is wrong, with the way out, and Note for what is worth
# knowing. All take the folder in which runs are kept.
CHECKS: dict[str, Callable[[Path], str]] = {
    'packages': installation.packages,
    'image libraries': installation.image_libraries,
    'operators': installation.operators,
    'devices': hardware.devices,
    'precision': hardware.precision,
    'same numbers as transformers': hardware.parity,
    'two processes': hardware.two_processes,
    'disk': hardware.disk,
    'killed while saving': faults.killed_while_saving,
    'failing disk': faults.failing_disk,
    'damaged checkpoints': faults.damaged_checkpoints,
    'damaged images': faults.damaged_images,
    'bad samples': runs.bad_samples,
    'NaN': runs.not_a_number,
    'out of memory': runs.out_of_memory,
    'stop signal': runs.stop_signal,
    'dead data worker': runs.dead_worker,
    'hang': runs.hang,
}


def examine(folder: Path) -> Iterator[Finding]:
    """Run every check, whatever the others found.

    Args:
        folder: Where runs are kept; checks write below it and clean up.
    """
    for name, check in CHECKS.items():
        started = time.perf_counter()
        verdict: Verdict = 'ok'
        try:
            detail = check(folder)
        except installation.Note as note:
            verdict, detail = 'note', str(note)
        except (UserError, OSError, RuntimeError, ImportError, AssertionError) as error:
            # What a broken installation or machine raises; a check that breaks must not hide the others.
            verdict, detail = 'wrong', f'{type(error).__name__}: {error}'
        yield Finding(name, verdict, detail, time.perf_counter() - started)
