"""The console command lists doors cheaply, runs the one that is named, and helps with a wrong name."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tools import sweep

REPO = Path(__file__).parents[2]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The command in a package of its own, with two doors, a helper and a door that fails to import."""
    package = tmp_path / 'doors_example'
    (package / 'converters').mkdir(parents=True)
    shutil.copy(REPO / 'tools/cli.py', package / 'cli.py')
    (package / '__init__.py').touch()
    (package / 'print_config.py').write_text(
        '"""Print it.\n\nMore."""\nimport sys\n\ndef main(argv):\n    print(sys.argv[0], argv)\n    return 3\n'
    )
    (package / 'converters/digits.py').write_text('"""Draw digits."""\n\ndef main(argv):\n    print(argv)\n')
    (package / 'helper.py').write_text('"""Not a door."""\n')
    (package / 'broken.py').write_text(
        '"""Costs much."""\nimport nothing_of_that_name\n\ndef main(argv): ...\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['internvl-mm'])
    yield importlib.import_module('doors_example.cli')
    for name in [name for name in sys.modules if name.startswith('doors_example')]:
        del sys.modules[name]


@pytest.mark.parametrize('argv', [[], ['--help'], ['-h']])
def test_help_lists_doors_without_importing_them(
    cli: ModuleType, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 0
    output = capsys.readouterr().out
    assert output.startswith('usage: internvl-mm DOOR')
    listed = [line.split(maxsplit=1) for line in output.splitlines() if line.startswith('  ')]
    assert listed == [
        ['broken', 'Costs much.'],
        ['converters/digits', 'Draw digits.'],
        ['print_config', 'Print it.'],
    ]


def test_runs_the_named_door(cli: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(['print-config', 'a.py', '--help']) == 3
    assert capsys.readouterr().out == "internvl-mm print_config ['a.py', '--help']\n"
    assert cli.main(['converters/digits']) is None
    assert capsys.readouterr().out == '[]\n'


@pytest.mark.parametrize(
    ('word', 'hint'),
    [
        ('print-confg', "Did you mean 'print_config'?"),
        ('digits', "Did you mean 'converters/digits'?"),
        ('xyz', 'There are: broken, converters/digits, print_config.'),
        ('cli', 'There are: broken, converters/digits, print_config.'),
    ],
)
def test_unknown_door(cli: ModuleType, word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([word]) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err == f"internvl-mm: there is no door '{word}'. {hint}\n"


def test_help_answers_at_once() -> None:
    code = 'import sys\nfrom tools.cli import main\nmain(["--help"])\nassert "torch" not in sys.modules'
    seconds = []
    for _ in range(3):  # the best of three: other processes share the machine
        start = time.perf_counter()
        subprocess.run([sys.executable, '-c', code], cwd=REPO, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


def test_options_of_a_sweep_may_stand_between_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list = []
    monkeypatch.setattr('tools.sweep.sweep', lambda settings, work_dir: given.extend([*settings, work_dir]))
    assert sweep.main(['--multirun', 'config=a', '--work-dir', 'there', 'seed=0,1']) == 0
    assert given == ['config=a', 'seed=0,1', Path('there')]
