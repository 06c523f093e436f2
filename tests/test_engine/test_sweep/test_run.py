"""Signals to a sweep while a point trains."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from internvl_mm.engine.sweep import run
from internvl_mm.engine.sweep.points import Point
from internvl_mm.engine.sweep.run import run_point

# A training that saves when it is told to stop, as ours do; the folder follows --work-dir.
TRAINING = """
import signal, sys, time
from pathlib import Path
folder = Path(sys.argv[sys.argv.index('--work-dir') + 1])
def stop(number, frame):
    time.sleep(0.5)
    (folder / 'saved').write_text('')
    sys.exit(128 + number)
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
(folder / 'ready').write_text('')
time.sleep(60)
"""


@pytest.mark.parametrize(
    ('number', 'raised'), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_training_may_save_before_the_sweep_ends(
    tmp_path: Path, number: signal.Signals, raised: type[BaseException]
) -> None:
    script = tmp_path / 'train.py'
    script.write_text(TRAINING)
    point = Point('quickstart/finetune_intern_vit_tiny_digits')
    folder = tmp_path / 'points' / point.check()
    before = signal.getsignal(number)

    def send() -> None:
        while not (folder / 'ready').exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()
    with pytest.raises(raised):
        run_point(point, tmp_path, train=[sys.executable, str(script)])
    assert (folder / 'saved').exists() and '"status": "running"' in (folder / 'point.json').read_text()
    assert signal.getsignal(number) is before


def test_a_signal_while_a_training_starts_ends_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen] = []

    def start(*given: Any, **named: Any) -> subprocess.Popen:
        started.append(subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE))
        signal.raise_signal(signal.SIGINT)
        return started[0]

    monkeypatch.setattr(run, 'subprocess', SimpleNamespace(Popen=start, STDOUT=subprocess.STDOUT))
    try:
        with pytest.raises(KeyboardInterrupt):
            run_point(Point('quickstart/finetune_intern_vit_tiny_digits'), tmp_path, train=[])
        assert started[0].poll() is not None, 'nobody would end it'
    finally:
        started[0].kill()
        started[0].communicate()
