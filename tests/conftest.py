"""What every test stands on: no network, one thread per process, the same random numbers each time."""

from __future__ import annotations

import os

# Read by the libraries when they are first imported, and inherited by the processes tests start.
os.environ.update(
    HF_HUB_OFFLINE='1',
    HF_DATASETS_OFFLINE='1',
    OMP_NUM_THREADS='1',
    MKL_NUM_THREADS='1',
    TOKENIZERS_PARALLELISM='false',
    COLUMNS='200',
)

import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import internvl_mm  # noqa: F401 (lets test files import mmdet and mmseg first)

# Behind nohup or a script's & it is ignored, by the processes tests start as well: tests of Ctrl-C would wait forever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start every test from the same random numbers, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    """An empty folder for what a run leaves."""
    folder = tmp_path / 'work_dir'
    folder.mkdir()
    return folder


@pytest.fixture(scope='session')
def repo() -> Path:
    """The root of the checkout."""
    return Path(__file__).parents[1]
