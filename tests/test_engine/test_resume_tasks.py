"""Every task goes on after an interruption byte for byte: weights, optimiser, random states, losses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_engine.task_runs import TASKS, check
from tests.test_engine.two_processes import launch


@pytest.mark.parametrize('task', TASKS)
def test_one_process(task: str, tmp_path: Path) -> None:
    check(task, tmp_path)


@pytest.mark.slow
def test_two_processes(tmp_path: Path, repo: Path) -> None:
    # By DDP; ZeRO 1 to 3 and FSDP2: test_strategies, test_segmentation_runs, test_chat_strategies.
    launch(tmp_path, list(TASKS), processes=2, repo=repo, module='task_runs')
