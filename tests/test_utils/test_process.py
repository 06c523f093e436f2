"""Marks of processes, alive and dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from internvl_mm.utils import process
from internvl_mm.utils.process import is_dead, this_process

# By its file: importing the package takes seconds.
TELL = f"""
import json, runpy
print(json.dumps(runpy.run_path({process.__file__!r})['this_process']()), flush=True)
input()
"""


def test_this_process_lives_and_a_killed_one_is_dead_even_before_its_parent_looks() -> None:
    assert is_dead(this_process()) is False
    child = subprocess.Popen([sys.executable, '-c', TELL], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    mark = json.loads(child.stdout.readline())
    assert mark['pid'] == child.pid and is_dead(mark) is False
    child.kill()
    child.stdout.read()  # ends with the process
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
    assert is_dead(mark) is True
    child.communicate()
    assert is_dead(mark) is True


def test_a_number_given_out_again_and_another_machine() -> None:
    mark = this_process()
    assert mark is not None
    assert is_dead(dict(mark, started=mark['started'] - 1)) is True
    for other in (dict(mark, boot='other'), dict(mark, namespace='pid:[1]'), dict(mark, pid='x'), {}, None):
        assert is_dead(other) is None


def test_systems_without_proc_cannot_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = this_process()
    monkeypatch.setattr(process, '_PROC', tmp_path)
    assert this_process() is None and is_dead(mark) is None
