"""What is installed: every file at its place, ranges that hold what was tested, targets that do not repeat work."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

REPO = Path(__file__).parents[1]
PYTHONS = ['3.10', '3.11', '3.12']


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.fixture(scope='module')
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files a clone would have, so that building leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp('packaging') / 'clone'
    names = run('git', 'ls-files', '-z', cwd=REPO).stdout.split('\0')
    for name in filter(None, names):
        if (REPO / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, folder / name)
    return folder


@pytest.fixture(scope='module')
def wheel(clone: Path) -> zipfile.ZipFile:
    target = clone.parent / 'wheels'
    pip = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation', '--no-index']
    built = run(*pip, '--wheel-dir', target, clone, cwd=clone)
    assert built.returncode == 0, built.stdout + built.stderr
    return zipfile.ZipFile(next(target.glob('internvl_mm-*.whl')))


def read_setup() -> configparser.ConfigParser:
    setup = configparser.ConfigParser()
    setup.read(REPO / 'setup.cfg')
    return setup


def requirements(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.splitlines() if line and not line.startswith('#')]


def pins(python: str) -> dict[str, Version]:
    """``{package: version}`` of the constraints for one Python."""
    found = {}
    for pin in requirements((REPO / 'requirements/constraints.txt').read_text()):
        if pin.marker is None or pin.marker.evaluate({'python_version': python}):
            (exact,) = pin.specifier
            assert exact.operator == '==' and pin.url is None, f'{pin}: a constraint is name==version'
            assert pin.name.lower() not in found, f'{pin.name} is pinned twice for Python {python}'
            found[pin.name.lower()] = Version(exact.version)
    return found


@pytest.mark.parametrize('python', PYTHONS)
def test_every_dependency_is_pinned_within_its_range(python: str) -> None:
    setup = read_setup()
    needed = setup['options']['install_requires'] + setup['options.extras_require']['dev']
    pinned = pins(python)
    for requirement in requirements(needed):
        assert requirement.specifier, f'{requirement.name} has no range'
        assert pinned[requirement.name.lower()] in requirement.specifier, requirement


def test_promised_ranges() -> None:
    ranges = {r.name: r.specifier for r in requirements(read_setup()['options']['install_requires'])}
    for version in ('2.10.0', '2.14.1', '2.15.0'):
        assert version in ranges['torch']
    assert '2.9.1' not in ranges['torch'] and '2.16.0' not in ranges['torch']
    assert '5.3.0' in ranges['transformers'] and '5.2.9' not in ranges['transformers']
    python = SpecifierSet(read_setup()['options']['python_requires'])
    assert all(version in python for version in PYTHONS) and '3.9' not in python


def test_both_opencv_builds_are_the_same_release() -> None:
    for python in PYTHONS:
        assert pins(python)['opencv-python'] == pins(python)['opencv-python-headless']
    page = (REPO / 'docs/get_started.md').read_text()
    assert f'opencv-python-headless=={pins("3.11")["opencv-python-headless"]}' in page


def test_wheel_holds_every_file_at_its_place(clone: Path, wheel: zipfile.ZipFile) -> None:
    places = {'internvl_mm': 'internvl_mm', 'tools': 'internvl_mm_tools', 'configs': 'internvl_mm/configs'}
    expected = {
        f'{place}/{file.relative_to(clone / folder).as_posix()}'
        for folder, place in places.items()
        for file in (clone / folder).rglob('*')
        if file.is_file() and '__pycache__' not in file.parts
    }
    packed = {name for name in wheel.namelist() if '.dist-info/' not in name}
    assert packed == expected


def test_wheel_brings_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    names = {name.partition('.dist-info/')[2]: name for name in wheel.namelist() if '.dist-info/' in name}
    assert 'internvl-mm = internvl_mm_tools.cli:main' in wheel.read(names['entry_points.txt']).decode()
    assert any(name.endswith('LICENSE') for name in names)
    from internvl_mm import __version__

    assert f'\nVersion: {__version__}\n' in wheel.read(names['METADATA']).decode()


def test_make_installs_once(clone: Path) -> None:
    first = run('make', '--dry-run', 'test', cwd=clone)
    assert first.returncode == 0, first.stderr
    steps = [line for line in first.stdout.splitlines() if 'pip install' in line]
    assert '--constraint requirements/constraints.txt --editable' in steps[0]
    assert steps[-1].endswith('--no-deps --force-reinstall opencv-python-headless'), (
        'cv2 without libGL comes last'
    )

    stamp = clone / re.findall(r'touch (\S+)', first.stdout)[-1]
    stamp.parent.mkdir()
    stamp.touch()
    os.utime(clone / 'setup.cfg')  # a newer date is no reason to install again, other content is
    for target in ('test', 'lint', 'quickstart', 'tour'):
        again = run('make', '--dry-run', target, cwd=clone)
        assert again.returncode == 0 and 'pip' not in again.stdout
    with (clone / 'setup.cfg').open('a') as file:
        file.write('# changed\n')
    assert 'pip install' in run('make', '--dry-run', 'test', cwd=clone).stdout


def test_make_without_a_python_says_what_to_do(clone: Path) -> None:
    result = run('make', 'lint', 'PYTHON=', 'VENV=none', cwd=clone)
    assert result.returncode == 2
    assert 'needs Python 3.10, 3.11 or 3.12' in result.stderr
    assert 'make lint PYTHON=/path/to/python3.11' in result.stderr


def test_ci_runs_lint_then_tests(clone: Path) -> None:
    fake = clone.parent / 'bin'
    fake.mkdir()
    (fake / 'make').write_text('#!/bin/sh\necho make "$@"\n')
    (fake / 'make').chmod(0o755)
    result = run(clone / '.ci/run', cwd=clone.parent, PATH=f'{fake}:{os.environ["PATH"]}')
    assert (result.returncode, result.stdout) == (0, 'make lint\nmake test\n')
