"""Rules of the tree that machines hold: what ruff enforces bites, and what ruff cannot say is checked here."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
AUDITED = 'internvl_mm/models/convert/legacy.py'  # the one module that may read pickles
SOURCES = ('internvl_mm', 'tools', 'configs', 'benchmarks', 'projects', 'tests')

MAX_FILE_LINES = 450
MAX_FUNCTION_LINES = 100
MAX_DOOR_LINES = 80
MAX_DOOR_FLAGS = 8
MAX_LEAF_LINES = 40

# Split, so that this file does not break the rule it holds.
MACHINE_PATH = re.compile(
    '|'.join([r'(?<![\w./~-])/(?:work|home|root|Users|mnt|opt|srv)' + r'/\w', r'\bC:' + r'\\\\'])
)
REGISTRY = re.compile(
    '|'.join(['--(?:extra-)?index' + '-url', '--find' + '-links', 'files\\.python' + 'hosted'])
)
SHARED = '../' + 'shared'


def python_files(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((REPO / folder).rglob('*.py'))]


def tracked_files() -> list[Path]:
    names = subprocess.run(
        ['git', 'ls-files', '-z'], cwd=REPO, capture_output=True, text=True, check=True
    ).stdout
    return [REPO / name for name in names.split('\0') if name and (REPO / name).is_file()]


def relative(file: Path) -> str:
    return file.relative_to(REPO).as_posix()


def length(text: str) -> int:
    return len(text.splitlines())


def ruff_codes(text: str, file: str) -> set[str]:
    """The rules that ``text`` would break if it stood in ``file``."""
    command = [
        sys.executable,
        '-m',
        'ruff',
        'check',
        '--output-format',
        'concise',
        '--stdin-filename',
        file,
        '-',
    ]
    output = subprocess.run(command, input=text, cwd=REPO, capture_output=True, text=True).stdout
    return set(re.findall(r':\d+: ([A-Z]+\d+)', output))


@pytest.mark.parametrize(
    ('text', 'code'),
    [
        ('import torch\n\nweights = torch.load("x")\n', 'TID251'),
        ('from torch import load\n\nweights = load("x")\n', 'TID251'),
        ('import pickle\n\nweights = pickle.load(open("x", "rb"))\n', 'TID251'),
        ('from pickle import loads\n\nweights = loads(b"")\n', 'TID251'),
        ('value = eval("1")\n', 'S307'),
        ('exec("value = 1")\n', 'S102'),
        ('try:\n    value = 1\nexcept Exception:\n    value = 2\n', 'BLE001'),
        ('try:\n    value = 1\nexcept:\n    value = 2\n', 'E722'),
        ('print("hello")\n', 'T201'),
        ('import sys\nimport os\n\nprint(sys, os)\n', 'I001'),
    ],
)
def test_ruff_refuses(text: str, code: str) -> None:
    assert code in ruff_codes(text, 'internvl_mm/engine/example.py')


def test_only_the_audited_module_may_read_pickles() -> None:
    text = 'import torch\n\nweights = torch.load("x", weights_only=True)\n'
    assert ruff_codes(text, AUDITED) == set()
    assert ruff_codes(text, 'internvl_mm/models/convert/other.py') == {'TID251'}
    assert ruff_codes(text, 'tools/convert.py') == {'TID251'}


def test_the_audited_module_loads_weights_only() -> None:
    file = REPO / AUDITED
    calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
    loads = [node for node in calls if ast.unparse(node.func) in ('torch.load', 'load')]
    assert loads, f'{AUDITED} is exempt from the ban on torch.load, but does not need to be'
    for node in loads:
        assert 'weights_only=True' in [ast.unparse(word) for word in node.keywords]


def test_no_rule_is_switched_off_where_it_protects() -> None:
    noqa = re.compile(r'#\s*(?:ruff|flake8)?:?\s*noqa(?!:)|#\s*noqa:.*\b(?:TID251|S102|S307|BLE001|E722)\b')
    found = [relative(file) for file in python_files('internvl_mm', 'tools') if noqa.search(file.read_text())]
    assert found == []


def test_files_and_functions_are_short() -> None:
    long = []
    for file in python_files(*SOURCES):
        text = file.read_text(encoding='utf-8')
        if length(text) > MAX_FILE_LINES:
            long.append(f'{relative(file)}: {length(text)} lines, allowed {MAX_FILE_LINES}')
        for node in ast.walk(ast.parse(text, filename=str(file))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(
                        f'{relative(file)}: {node.name} has {lines} lines, allowed {MAX_FUNCTION_LINES}'
                    )
    assert long == [], 'split by idea, not by line'


def flags_of(tree: ast.AST) -> list[str]:
    """The options a door takes, without ``--help``."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    named = [
        node for node in calls if isinstance(node.func, ast.Attribute) and node.func.attr == 'add_argument'
    ]
    return [name for node in named if (name := ast.literal_eval(node.args[0])).startswith('-')]


def test_doors_are_thin() -> None:
    thick = []
    for file in python_files('tools'):
        text = file.read_text(encoding='utf-8')
        flags = flags_of(ast.parse(text, filename=str(file)))
        if length(text) > MAX_DOOR_LINES or len(flags) > MAX_DOOR_FLAGS:
            thick.append(f'{relative(file)}: {length(text)} lines, {len(flags)} flags')
    assert thick == [], (
        f'a door has at most {MAX_DOOR_LINES} lines, {MAX_DOOR_FLAGS} flags; the work is in the package'
    )


def test_every_door_says_what_it_is_for() -> None:
    from tools.cli import find_doors

    silent = [name for name, purpose in find_doors().items() if not 20 <= len(purpose) <= 110]
    assert silent == [], 'the first docstring line of a door is what `internvl-mm --help` shows'


def test_nothing_names_a_machine() -> None:
    found = []
    for file in tracked_files():
        try:
            text = file.read_text(encoding='utf-8')
        except UnicodeDecodeError:  # pictures
            continue
        for number, line in enumerate(text.splitlines(), 1):
            shared = SHARED in line and relative(file) != '.ci/run'
            if MACHINE_PATH.search(line) or REGISTRY.search(line) or shared:
                found.append(f'{relative(file)}:{number}: {line.strip()[:80]}')
    assert found == [], 'the tree works anywhere: no paths of one machine, no package index'


@pytest.mark.parametrize(
    ('line', 'is_path'),
    [
        ('data_root = "/ho' + 'me/me/imagenet"', True),
        ('see /wo' + 'rk/main', True),
        ('data/ho' + 'me/x', False),
        ('https://example.org/ho' + 'me/x', False),
        ('a /ro' + 'ot of 2', False),
    ],
)
def test_the_guard_knows_a_machine_path(line: str, is_path: bool) -> None:
    assert bool(MACHINE_PATH.search(line)) == is_path


def string_types(tree: ast.AST) -> list[int]:
    """Lines where a part is named by string: ``dict(type='X')`` or ``{'type': 'X'}``."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            values = [word.value for word in node.keywords if word.arg == 'type']
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values)
            values = [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == 'type']
        else:
            continue
        lines += [
            value.lineno
            for value in values
            if isinstance(value, ast.Constant) and isinstance(value.value, str)
        ]
    return lines


def test_configs_name_parts_by_import() -> None:
    found = [
        f'{relative(file)}:{line}'
        for file in python_files('configs', 'projects')
        for line in string_types(ast.parse(file.read_text(encoding='utf-8'), filename=str(file)))
    ]
    assert found == [], (
        "write `type=SomeClass` with the class imported, so that a click goes to the code, not type='SomeClass'"
    )


def test_string_types_are_seen() -> None:
    tree = ast.parse("a = dict(type='X')\nb = {'type': 'Y'}\nc = dict(type=Z, kind='W')\n")
    assert string_types(tree) == [1, 2]


def test_leaf_configs_are_short_and_say_what_they_are() -> None:
    wrong = []
    for file in python_files('configs'):
        if '_base_' in file.parts:
            continue
        text = file.read_text(encoding='utf-8')
        header = ast.get_docstring(ast.parse(text, filename=str(file))) or ''
        if length(text) > MAX_LEAF_LINES:
            wrong.append(f'{relative(file)}: {length(text)} lines, allowed {MAX_LEAF_LINES}')
        if relative(file) not in header:
            wrong.append(
                f'{relative(file)}: the header docstring does not give the command that runs this file'
            )
    assert wrong == [], (
        'a leaf opens with: what, exact command, hardware, expected number; then only what differs'
    )
