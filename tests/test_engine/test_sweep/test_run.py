"""One point of a sweep and the process that trains it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TRAINING = """
import signal, sys, time
from pathlib import Path

def save(*_):
    time.sleep(0.6)  # longer than subprocess.run waits
    Path('saved').touch()
    sys.exit(130)

signal.signal(signal.SIGINT, save)
Path('started').touch()
time.sleep(60)
"""
# As in a terminal, Ctrl-C reaches the sweep and the training.
SWEEP = """
import os, signal, sys, threading, time
from pathlib import Path
from internvl_mm.engine.sweep.run import PointState, _train

def interrupt():
    while not Path('started').exists():
        time.sleep(0.01)
    time.sleep(0.1)
    os.killpg(0, signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    _train(PointState({}, [sys.executable, 'training.py']))
except KeyboardInterrupt:
    sys.exit(0 if Path('saved').exists() else 1)
"""


def test_an_interrupted_training_saves_before_the_sweep_ends(repo: Path, tmp_path: Path) -> None:
    (tmp_path / 'training.py').write_text(TRAINING)
    sweep = subprocess.run(
        [sys.executable, '-c', SWEEP],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(repo)),
        start_new_session=True,
        timeout=60,
        check=False,
    )
    assert sweep.returncode == 0
