"""The commands, as a user types them."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / 'tests' / 'data' / 'configs' / 'digits.py')
DOORS = ('train', 'test', 'print_config', 'browse', 'infer', 'retrieve')


def door(name: str) -> Callable[[list[str]], int]:
    """The ``main`` of a door."""
    spec = importlib.util.spec_from_file_location(f'door_{name}', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def run(*command: str) -> subprocess.CompletedProcess:
    """Run Python on the package of this checkout."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.parametrize('name', DOORS)
def test_help_is_quick(name: str) -> None:
    took = []
    for _ in range(3):  # the machine may be busy: the best counts
        start = time.perf_counter()
        done = run(str(ROOT / 'tools' / f'{name}.py'), '--help')
        took.append(time.perf_counter() - start)
        assert done.returncode == 0
        assert 'usage:' in done.stdout
        if took[-1] < 0.5:
            break
    assert min(took) < 0.5


@pytest.mark.parametrize('name', DOORS)
def test_parsing_imports_nothing_heavy(name: str) -> None:
    code = (
        'import runpy, sys\n'
        f'sys.argv = ["{name}", "--help"]\n'
        'try:\n'
        f'    runpy.run_path({str(ROOT / "tools" / f"{name}.py")!r}, run_name="__main__")\n'
        'except SystemExit:\n'
        '    print({"torch", "mmengine", "numpy", "rich", "internvl_mm"} & set(sys.modules))\n'
    )
    assert run('-c', code).stdout.endswith('set()\n')


def test_mistakes_are_told_fast_and_without_traceback() -> None:
    mistakes = [
        ['digts.py'],
        [DIGITS, '--cfg-options', 'model.backbone.hidden_sise=3'],
        [DIGITS, '--cfg-options', 'model.head.num_classes=ten'],
        [DIGITS, '--cfg-options', 'load_from=no_such_weights'],
        [DIGITS, '--resume', 'no_such_run'],
        [DIGITS, '--dry-run', '--cfg-options', 'model.backbone.frozen=al'],
    ]
    code = (
        'import importlib.util, json, sys, time\n'
        'import internvl_mm.engine.runner, internvl_mm.engine.config\n'
        f'spec = importlib.util.spec_from_file_location("train", {str(ROOT / "tools" / "train.py")!r})\n'
        'train = importlib.util.module_from_spec(spec)\n'
        'spec.loader.exec_module(train)\n'
        'seen = []\n'
        f'for argv in {mistakes!r}:\n'
        '    start = time.process_time()\n'
        '    seen.append((train.main(argv), time.process_time() - start))\n'
        'print(json.dumps(seen))\n'
    )
    done = run('-c', code)
    seen = json.loads(done.stdout.splitlines()[-1])
    assert [status for status, _ in seen] == [2] * len(mistakes)
    assert max(seconds for _, seconds in seen) < 2
    assert 'Traceback' not in done.stderr + done.stdout
    for hint in ("'hidden_size'", 'allowed: int', 'no_such_weights does not exist', 'no_such_run', "'all'"):
        assert hint in done.stderr


def test_train_then_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert door('train')([DIGITS]) == 0
    run_folder = next((tmp_path / 'work_dirs' / 'digits').glob('*/results.json')).parent
    trained = {row['metric']: row['value'] for row in json.loads((run_folder / 'results.json').read_text())}
    arguments = [DIGITS, str(run_folder), '--work-dir', 'tested', '--benchmarks', 'digits']
    assert door('test')(arguments) == 0
    results = next((tmp_path / 'tested').glob('*/results.json'))
    tested = {row['metric']: row['value'] for row in json.loads(results.read_text())}
    assert tested == pytest.approx(trained)
    capsys.readouterr()
    assert door('test')([*arguments[:-1], 'digitz']) == 2
    assert "Did you mean 'digits'?" in capsys.readouterr().err
    assert door('test')([DIGITS, 'no_such_checkpoint']) == 2
    assert 'load_from: no_such_checkpoint does not exist' in capsys.readouterr().err


WITH_CHECKPOINTS = [DIGITS, '--cfg-options', 'default_hooks.checkpoint.type=CheckpointHook']


def test_a_work_dir_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / 'file').write_text('')
    assert door('train')([DIGITS, '--work-dir', f'{tmp_path}/file/below']) == 2
    assert 'is not writable (Not a directory): choose another with --work-dir' in capsys.readouterr().err


# At the beginning, in a checkpoint, at the end.
@pytest.mark.parametrize('file', ['environment.json', 'meta.json', '.results.json.unfinished'])
def test_a_full_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_text = Path.write_text

    def write(path: Path, *args: object, **options: str) -> int:
        if path.name == file:
            raise OSError(errno.ENOSPC, 'No space left on device')  # as write() fails, without a name
        return write_text(path, *args, **options)

    monkeypatch.setattr(Path, 'write_text', write)
    assert door('train')(WITH_CHECKPOINTS) == 2
    told = capsys.readouterr().err
    assert 'the disk is full' in told and 'Free space' in told
    assert not list(tmp_path.rglob('.*unfinished'))


def test_dry_run_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert door('train')([DIGITS, '--dry-run']) == 0
    assert 'predicted peak' in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_print_config(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert door('print_config')([DIGITS, '--cfg-options', 'model.head.num_classes=7']) == 0
    text = capsys.readouterr().out
    assert 'num_classes=7' in text
    (tmp_path / 'printed.py').write_text(text)  # what is printed is a config
    assert door('print_config')([str(tmp_path / 'printed.py'), '--diff', DIGITS]) == 0
    changed = [
        line
        for line in capsys.readouterr().out.splitlines()
        if line[:1] in '+-' and line[:3] not in ('+++', '---')
    ]
    assert [line.strip('+- ,') for line in changed] == ['num_classes=7', 'num_classes=10']
    assert door('print_config')([DIGITS, '--cfg-options', 'model.nek=1']) == 2
    printed = capsys.readouterr()
    assert 'nek=1' in printed.out  # what is wrong can be seen
    assert "Did you mean 'neck'?" in printed.err


def test_browse(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / 'samples.png'
    assert door('browse')([DIGITS, '--num', '3', '--out', str(out)]) == 0
    assert Image.open(out).size == (3 * 116, 130)
    assert door('browse')([DIGITS, '--benchmark', 'digitz']) == 2
    assert "Did you mean 'digits'?" in capsys.readouterr().err
    assert door('browse')([DIGITS, '--num', '1', '--out', f'{tmp_path}/no/folder.png']) == 2
    assert 'the picture cannot be written' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='2'):
        door('browse')([DIGITS, '--num', '0'])


def test_infer(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Image.new('RGB', (50, 40), 'red').save(tmp_path / 'red.png')
    (tmp_path / 'bad.png').write_bytes(b'bad')
    out = tmp_path / 'out'
    assert door('infer')([str(tmp_path), '--config', DIGITS, '--out', str(out)]) == 0
    printed = capsys.readouterr().out
    assert '1 images to' in printed and '1 left out' in printed
    results = json.loads((out / 'results.json').read_text())
    assert len(results['images'][0]['classes']) == 5
    assert [entry['file'] for entry in results['failed']] == [str(tmp_path / 'bad.png')]
    assert Image.open(out / 'pictures' / 'red.png').width == 50
    assert door('infer')([str(tmp_path / 'none.png'), '--config', DIGITS]) == 2
    assert 'none.png does not exist' in capsys.readouterr().err
    assert door('infer')([str(tmp_path), '--config', DIGITS, '--out', str(tmp_path / 'red.png')]) == 2
    assert '--out' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='2'):
        door('infer')([str(tmp_path), '--config', DIGITS, '--batch-size', '0'])
