"""The batch script of Slurm, with stand-ins for Slurm's commands."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SRUN = """#!/usr/bin/env bash
echo "srun $* port $MASTER_PORT at $MASTER_ADDR" >> "$LOG"
trap 'echo saved >> "$LOG"; exit 143' TERM
if [[ -n $WAITS ]]; then touch "$LOG.started"; for _ in {1..100}; do sleep 0.1; done; fi
exit "$STATUS"
"""
SCONTROL = """#!/usr/bin/env bash
case "$1 $2" in
    "show hostnames") echo node7 ;;
    "show job") echo "JobId=$3 JobState=$STATE Reason=None"
        # The number of an array shows all its tasks.
        [[ $3 == "$SLURM_ARRAY_JOB_ID" ]] && echo "JobId=70000 JobState=RUNNING Reason=None" ;;
    *) echo "scontrol $*" >> "$LOG" ;;
esac
"""


@pytest.fixture
def slurm(tmp_path: Path, repo: Path):
    """Start the script as Slurm would; gives the process and the log of what it called."""
    for name, text in dict(srun=SRUN, scontrol=SCONTROL).items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def start(*arguments: str, **environment: object) -> tuple[subprocess.Popen, Path]:
        log = tmp_path / 'log'
        own = dict(
            LOG=log,
            STATUS=0,
            STATE='RUNNING',
            WAITS='',
            SLURM_JOB_ID=70001,
            SLURM_JOB_NODELIST='node[7-8]',
            SLURM_SUBMIT_DIR='here',
        )
        process = subprocess.Popen(
            ['bash', str(repo / 'tools/launch/slurm_batch.sh'), *arguments],
            env={
                'PATH': f'{tmp_path}:{os.environ["PATH"]}',
                **{k: str(v) for k, v in (own | environment).items()},
            },
        )
        return process, log

    return start


@pytest.mark.parametrize(
    ('status', 'requeued'), [(0, False), (1, False), (2, False), (138, True), (143, True)]
)
def test_a_run_that_was_stopped_goes_back_into_the_queue(slurm, status: int, requeued: bool) -> None:
    process, log = slurm('configs/a/leaf.py', STATUS=status)
    assert process.wait(20) == (0 if requeued else status)
    called = log.read_text()
    assert (
        'python -u here/tools/train.py configs/a/leaf.py --work-dir work_dirs/leaf --resume --launcher slurm'
        in called
    )
    assert 'port 30001 at node7' in called
    assert ('scontrol requeue 70001' in called) == requeued


def test_a_cancelled_job_does_not_come_back(slurm) -> None:
    # What Slurm says of a job after scancel, while the script still runs.
    process, log = slurm('leaf.py', STATUS=143, STATE='COMPLETING')
    assert process.wait(20) == 143
    assert 'requeue' not in log.read_text()


def test_a_cancelled_task_does_not_come_back_for_others_of_its_array(slurm) -> None:
    # The last task of an array has the number of the array.
    array = dict(SLURM_ARRAY_TASK_ID=2, SLURM_ARRAY_JOB_ID=69000, SLURM_JOB_ID=69000)
    process, log = slurm('leaf.py', STATUS=143, STATE='COMPLETING', **array)
    assert process.wait(20) == 143
    assert 'requeue' not in log.read_text()


def test_tasks_of_an_array_are_runs_of_their_own(slurm) -> None:
    array = dict(SLURM_ARRAY_TASK_ID=2, SLURM_ARRAY_JOB_ID=69000)
    process, log = slurm('leaf.py', '--cfg-options', 'randomness.seed={task}', STATUS=143, **array)
    assert process.wait(20) == 0
    called = log.read_text()
    assert '--work-dir work_dirs/leaf_2 ' in called and 'randomness.seed=2' in called
    assert 'scontrol requeue 69000_2' in called


def test_tasks_of_an_array_share_no_folder_that_was_named_either(slurm) -> None:
    array = dict(SLURM_ARRAY_TASK_ID=2, SLURM_ARRAY_JOB_ID=69000)
    process, log = slurm('leaf.py', WORK_DIR='runs/seeds', **array)
    assert process.wait(20) == 0
    assert '--work-dir runs/seeds_2 ' in log.read_text()


def test_tasks_get_the_cores_of_the_job(slurm) -> None:
    process, log = slurm('leaf.py', SLURM_CPUS_PER_TASK=6)
    assert process.wait(20) == 0
    assert 'srun --kill-on-bad-exit=1 --cpus-per-task=6 python' in log.read_text()


def test_the_script_outlives_a_signal_to_the_whole_job(slurm) -> None:
    process, log = slurm('leaf.py', WAITS=1)
    while not log.with_name('log.started').exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert process.poll() is None
    child = int(Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()[0])
    os.kill(child, signal.SIGTERM)
    assert process.wait(20) == 0
    assert log.read_text().splitlines()[-2:] == ['saved', 'scontrol requeue 70001']
