"""Command-line cold start: `--help` of our doors against other launchers of the field, each in a fresh process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.harness import Row, compare, interleave

ROOT = Path(__file__).resolve().parent.parent
PEERS = ('torchrun', 'accelerate')
GOAL_SECONDS = 0.5


def _help(command: list[str]) -> None:
    subprocess.run(
        [*command, '--help'], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
    )


def run(quick: bool = False) -> list[Row]:
    """Whole-process seconds of ``python tools/train.py --help``; peers beside this interpreter on the path."""
    scripts = Path(sys.executable).parent
    contestants = {'ours': partial(_help, [sys.executable, 'tools/train.py'])}
    for peer in PEERS:
        command = shutil.which(peer, path=str(scripts))
        if command is None:
            raise FileNotFoundError(
                f'{peer} is not installed beside {sys.executable}: install the package first'
            )
        contestants[peer] = partial(_help, [command])
    seconds = interleave(contestants, rounds=3 if quick else 11, warmup=1)
    note = f'goal: ours below {GOAL_SECONDS} s'
    return [compare('train.py --help', seconds, peer, goal=1.0, note=note) for peer in PEERS]
