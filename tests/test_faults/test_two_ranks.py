"""What one of two processes, or one of two machines, does to the other."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from internvl_mm.data.datasets import DigitSceneDataset
from internvl_mm.engine.doctor.trial import SIZE, run, trial
from internvl_mm.engine.trees import load_tensors
from internvl_mm.registry import MODELS
from internvl_mm.utils.door import RESUMABLE
from internvl_mm.utils.states import MODEL, latest_state
from tests.test_engine.two_processes import free_port
from tests.test_faults.two_ranks import NODE_STEPS

MODULE = 'tests.test_faults.two_ranks'
PATIENCE = 600  # s; seconds on a quiet machine, minutes beside others


def start(repo: Path, words: list[str], **environment: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, '-m', *words],
        cwd=repo,
        env=dict(os.environ, **{name: str(value) for name, value in environment.items()}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A group of its own, so that a "machine" can be killed whole.
        start_new_session=True,
    )


def pair(repo: Path, folder: Path, what: str) -> list[tuple[int, str]]:
    """Statuses and outputs of two processes."""
    port = free_port()
    started = [
        start(
            repo,
            [MODULE, str(folder), what],
            **dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_ADDR='127.0.0.1', MASTER_PORT=port),
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in started]
    return [(process.returncode, output) for process, output in zip(started, outputs, strict=True)]


def children(parent: int) -> list[int]:
    """Processes a process started."""
    return [int(word) for word in Path(f'/proc/{parent}/task/{parent}/children').read_text().split()]


@pytest.mark.slow
def test_nan_in_one_process_skips_the_step_in_both(repo: Path, work_dir: Path) -> None:
    for status, output in pair(repo, work_dir, 'nan'):
        assert status == 0, output[-3000:]


@pytest.mark.slow
def test_a_process_that_stands_still_ends_both_with_their_stacks(repo: Path, work_dir: Path) -> None:
    results = pair(repo, work_dir, 'hang')
    assert [status for status, _ in results] == [RESUMABLE] * 2, results[0][1][-2000:]
    assert all('nothing moved for' in output for _, output in results)
    waiting, standing = (next(work_dir.glob(f'*/stacks.rank{rank}.txt')).read_text() for rank in range(2))
    assert 'two_ranks.py' in standing and 'in before_train_iter' in standing
    assert 'in before_train_iter' not in waiting and 'in train_step' in waiting


@pytest.mark.slow
def test_a_machine_that_is_killed_and_started_again_joins_the_other(repo: Path, work_dir: Path) -> None:
    script = (repo / 'tools' / 'launch' / 'torchrun.sh').read_text()
    (variable,) = re.findall(r'^export (TORCH_\w+)=1$', script, re.MULTILINE)
    meeting = f'--rdzv-endpoint=127.0.0.1:{free_port()}'

    def machine() -> subprocess.Popen:
        words = ['torch.distributed.run', '--nnodes=2', '--nproc-per-node=1', '--rdzv-backend=c10d', meeting]
        words += ['--rdzv-id=test', '--max-restarts=3', '-m', MODULE, str(work_dir), 'node']
        return start(repo, words, **{variable: 1})

    def steps() -> int:
        state = latest_state(work_dir)
        return int(state.name.removeprefix('iter_')) if state else 0

    first = machine()  # holds the meeting point; it is the second that is killed
    time.sleep(1)
    second = machine()
    end = time.monotonic() + PATIENCE
    while steps() < 3 and time.monotonic() < end:
        time.sleep(0.1)
    assert 3 <= steps() < NODE_STEPS
    workers = children(second.pid)  # torchrun gives them sessions of their own
    for process in (second.pid, *workers):
        os.kill(process, signal.SIGKILL)
    second.wait()
    again = machine()
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in (first, again)]
    assert [first.returncode, again.returncode] == [0, 0], outputs[0][-3000:]
    assert steps() == NODE_STEPS
    # Two run folders, the second of which went on: its first own state is not the first of all.
    runs = sorted(path for path in work_dir.iterdir() if path.is_dir())
    assert len(runs) == 2
    digits = dict(type=DigitSceneDataset, split='train', size=SIZE, length=8 * NODE_STEPS)
    _, whole = run(trial(work_dir.with_name('whole'), dataset=digits, batch_size=8))
    model = weights_of(latest_state(work_dir))
    found = torch.cat([tensor.flatten() for tensor in model])
    torch.testing.assert_close(found, whole.weights[-1], atol=1e-5, rtol=1e-4)


def weights_of(state: Path) -> list[torch.Tensor]:
    """Its weights, in the order of the task's parameters."""
    tensors = load_tensors(state / MODEL)
    return [tensors[name] for name, _ in MODELS.build(trial(state)['model']).named_parameters()]
