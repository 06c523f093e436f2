"""Runs that build on each other: order, lanes, results, failures."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from internvl_mm.engine.stages import Stage, StageError, Stages, print_results
from internvl_mm.utils.errors import ConfigError

REPO = Path(__file__).parents[2]
# Stands for tools/train.py: writes down when it ran and what it was given, leaves a result; one config fails.
TRAIN = """
import json, sys, time
from pathlib import Path
config, argv = Path(sys.argv[1]).stem, sys.argv[2:]
began = time.time()
print('eta: 0:01:02 to go')
if config == 'broken':
    sys.exit('the disk is on fire')
time.sleep(0.6)
folder = Path(argv[1]) / '20260101_000000'
folder.mkdir()
(folder / 'environment.json').write_text('{}')
(folder / 'told.json').write_text(json.dumps(dict(began=began, ended=time.time(), argv=argv)))
row = dict(benchmark='digits', metric='top1', value=87.5, n=360, config_hash='')
(folder / 'results.json').write_text(json.dumps([row]))
"""


@pytest.fixture
def train(tmp_path: Path) -> Path:
    path = tmp_path / 'train.py'
    path.write_text(TRAIN)
    return path


def stage(config: str, start: str | None = None) -> Stage:
    return Stage(f'the stage {config}', config, ('digits/top1',), start and ('load_from', start))


def told(folder: Path) -> dict:
    return json.loads((folder / 'told.json').read_text())


def test_stages_wait_for_what_they_start_from_and_share_the_lanes(train: Path, work_dir: Path) -> None:
    stages = [stage('first'), stage('second', 'first'), stage('third', 'first')]
    runs = Stages(stages, work_dir, train, lanes=2).run()
    assert [run[0].config for run in runs] == ['first', 'second', 'third']
    first, second, third = (told(folder) for _, folder, _ in runs)
    assert first['argv'] == ['--work-dir', str(work_dir / 'first')]
    assert second['argv'][2:] == ['--cfg-options', f'load_from={runs[0][1]}']
    assert first['ended'] <= min(second['began'], third['began'])
    assert max(second['began'], third['began']) < min(second['ended'], third['ended'])  # side by side
    assert all(took > 0.5 for _, _, took in runs)


def test_one_lane_runs_one_after_the_other(train: Path, work_dir: Path) -> None:
    runs = Stages([stage('first'), stage('second')], work_dir, train, lanes=1).run()
    first, second = (told(folder) for _, folder, _ in runs)
    assert first['ended'] <= second['began']


def test_results_are_one_table(train: Path, work_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_results('All of it', Stages([stage('first')], work_dir, train, lanes=1).run())
    out = capsys.readouterr().out
    assert re.search(r'the stage first.*digits/top1.*87\.5.*360', out)
    assert 'python ' in out and 'quickstart/first.py' in out  # what a user would type


def test_a_failed_stage_ends_the_others_and_says_its_last_words(train: Path, work_dir: Path) -> None:
    stages = Stages([stage('long'), stage('broken'), stage('never', 'broken')], work_dir, train, lanes=2)
    began = time.monotonic()
    with pytest.raises(
        StageError, match=r'"the stage broken" ended with status 1.*console\.log:\n(.*\n)*the disk'
    ):
        stages.run()
    assert time.monotonic() - began < 30
    assert not (work_dir / 'never').exists()


def test_sigterm_ends_the_stages_too(train: Path, work_dir: Path) -> None:
    train.write_text('import os, time\nopen("pid", "w").write(str(os.getpid()))\ntime.sleep(60)\n')
    code = (
        'from pathlib import Path\nfrom internvl_mm.engine.stages import Stage, Stages\n'
        f'Stages([Stage("long", "long", ())], Path({str(work_dir)!r}), Path({str(train)!r}), lanes=1).run()'
    )
    process = subprocess.Popen(
        [sys.executable, '-c', code], cwd=work_dir, env=dict(os.environ, PYTHONPATH=str(REPO))
    )
    pid = work_dir / 'pid'
    while not pid.exists() or not pid.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=120) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


# As StopSignalHook does: saves on the first signal, and is ended by the second.
SAVES = """
import os, signal, sys, time
from pathlib import Path
def stop(number, frame):
    for known in (signal.SIGINT, signal.SIGTERM):
        signal.signal(known, signal.SIG_DFL)
    time.sleep(0.5)
    Path('saved').write_text('')
    sys.exit(128 + number)
for known in (signal.SIGINT, signal.SIGTERM):
    signal.signal(known, stop)
Path('ready').write_text(str(os.getpid()))
time.sleep(60)
"""


def test_ctrl_c_lets_the_stages_save(train: Path, work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal sends it to all processes of its group."""
    train.write_text(SAVES)
    monkeypatch.chdir(work_dir)
    ready = work_dir / 'ready'

    def send() -> None:
        while not ready.exists() or not ready.read_text():
            time.sleep(0.02)
        child = int(ready.read_text())
        if os.getpgid(child) == os.getpgrp():
            os.kill(child, signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=send, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        Stages([stage('long')], work_dir, train, lanes=1).run()
    assert (work_dir / 'saved').exists()


@pytest.mark.parametrize(
    ('stages', 'words'),
    [
        ([stage('a'), stage('a')], 'two stages run a'),
        ([stage('b', 'a'), stage('a')], 'b starts from a, which is no stage before it'),
    ],
)
def test_plans_that_cannot_run_are_refused(
    stages: list[Stage], words: str, train: Path, work_dir: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        Stages(stages, work_dir, train)
