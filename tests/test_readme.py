"""What the README and the docs tell a reader to type or to open exists and does what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    'README.md',
    'CONTRIBUTING.md',
    'SECURITY.md',
    *(page.relative_to(ROOT).as_posix() for page in (ROOT / 'docs').rglob('*.md')),
]


def commands(page: str) -> list[str]:
    """Lines of a page that start one of our doors or benchmarks."""
    text = (ROOT / page).read_text(encoding='utf-8')
    return re.findall(
        r'(?:^|`)(?:OMP_NUM_THREADS=1 )?python ((?:tools|benchmarks)/[^`\n]+)', text, re.MULTILINE
    )


@pytest.mark.parametrize('page', PAGES)
def test_named_files_exist(page: str) -> None:
    for command in commands(page):
        for word in command.split():
            if word.startswith(('tools/', 'configs/', 'benchmarks/', 'tests/')) and 'DOOR' not in word:
                assert (ROOT / word).exists(), f'{page}: python {command}'


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding='utf-8')
    for target in re.findall(r'\]\(([^)#\s]+)', text):
        if not target.startswith('http'):
            assert ((ROOT / page).parent / target).exists(), f'{page}: {target}'


def test_readme_is_short_and_names_both_commands() -> None:
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert len(text.splitlines()) <= 250
    assert 'make quickstart' in text and 'make test' in text


def test_the_folders_of_the_file_map_exist() -> None:
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    places = re.findall(r'^\| `([\w/.]+)` \|', text, re.MULTILINE)
    assert len(places) > 8
    assert [place for place in places if not (ROOT / place).exists()] == []


def test_every_option_of_a_command_is_known() -> None:
    for command in commands('README.md'):
        door, *words = command.split()
        options = {word.partition('=')[0] for word in words if word.startswith('--')}
        known = subprocess.run(
            [sys.executable, door, '--help'], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        assert all(option in known for option in options), command


def test_the_example_of_the_arrow_runs() -> None:
    text = (ROOT / 'docs/the_arrow.md').read_text(encoding='utf-8')
    code = next(
        block for block in re.findall(r'```python\n(.*?)```', text, re.DOTALL) if 'InternViT(' in block
    )
    check = 'assert features.tokens.shape == (2, 25, 128) and features.grid == (4, 6)'
    subprocess.run([sys.executable, '-c', f'{code}\n{check}'], cwd=ROOT, check=True)
