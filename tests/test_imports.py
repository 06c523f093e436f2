"""Imports flow left to right only, doors are cheap to open, and nothing imports what stands outside the package."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
PACKAGE = 'internvl_mm'
# Left to right. Rooms of one step may use each other.
STEPS = [
    {'registry', 'structures', 'utils'},
    {'ops'},
    {'data'},
    {'preprocess'},
    {'models'},
    {'evaluation'},
    {'engine'},
    {'serving'},
]
OUTSIDE = {'tools', 'internvl_mm_tools', 'configs', 'projects', 'tests', 'benchmarks'}


def module_name(file: Path, root: Path = REPO) -> str:
    parts = file.relative_to(root).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imported_names(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield ``(module, names)`` of every import, relative ones resolved; ``names`` is empty for ``import x``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split('.')
            base = base[: len(base) - node.level + is_package] if node.level else []
            source = '.'.join([*base, *([node.module] if node.module else [])])
            yield source, [alias.name for alias in node.names]


def top_level(tree: ast.Module) -> ast.Module:
    """The statements that run on import, without function bodies and without ``if TYPE_CHECKING``."""
    kept = [
        node
        for node in tree.body
        if not isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not (isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test))
    ]
    return ast.Module(body=kept, type_ignores=[])


def graph_of(files: list[Path], root: Path, *, on_import_only: bool) -> dict[str, set[str]]:
    """Return ``{module: modules it imports}``; ``from a import b`` counts as ``a.b`` where that is a module."""
    modules = {module_name(file, root): file for file in files}
    graph: dict[str, set[str]] = {}
    for module, file in modules.items():
        tree = ast.parse(file.read_text(encoding='utf-8'), filename=str(file))
        tree = top_level(tree) if on_import_only else tree
        edges = set()
        for source, names in imported_names(tree, module, is_package=file.name == '__init__.py'):
            submodules = {f'{source}.{name}' for name in names} & set(modules)
            edges |= submodules or {source}
        graph[module] = edges - {module}
    return graph


def step_of(module: str) -> int | None:
    """The step of a module of the package, ``None`` for the package itself and for anything else."""
    parts = module.split('.')
    if parts[0] != PACKAGE or len(parts) == 1:
        return None
    steps = [number for number, rooms in enumerate(STEPS) if parts[1] in rooms]
    assert steps, f'{module} is in no known room: the rooms are {sorted(set().union(*STEPS))}'
    return steps[0]


def backward_imports(graph: dict[str, set[str]]) -> list[str]:
    """Every import that goes from a room to one further right."""
    found = []
    for module, targets in graph.items():
        here = step_of(module)
        for target in sorted(targets) if here is not None else ():
            there = step_of(target)
            if there is not None and there > here:
                found.append(f'{module} imports {target}')
    return found


def package_names(tree: ast.AST) -> set[str]:
    """What a file takes from the package as a whole: ``internvl_mm.x`` or ``from internvl_mm import x``."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE and not node.level:
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == PACKAGE:
            names.add(node.attr)
    return names


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def files_below(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((REPO / folder).rglob('*.py'))]


def test_rooms_import_left_to_right() -> None:
    graph = graph_of(files_below(PACKAGE), REPO, on_import_only=False)
    assert len(graph) > 20
    assert backward_imports(graph) == []


def test_rooms_take_only_facts_from_the_package_as_a_whole() -> None:
    """``internvl_mm.__version__`` is a fact; ``internvl_mm.load_model`` would be a way around the order of rooms."""
    rooms = set().union(*STEPS)
    for file in files_below(PACKAGE):
        taken = package_names(ast.parse(file.read_text(encoding='utf-8'), filename=str(file)))
        wrong = {name for name in taken if name not in rooms and not name.startswith('__')}
        assert not wrong, f'{file.relative_to(REPO)} takes {wrong} from the package: import it from its room'


def test_no_import_cycle() -> None:
    graph = graph_of(files_below(PACKAGE), REPO, on_import_only=True)
    assert find_cycle(graph) == [], 'these modules import each other when loaded'


def test_package_imports_nothing_outside_it() -> None:
    graph = graph_of(files_below(PACKAGE), REPO, on_import_only=False)
    found = [
        (module, target) for module in graph for target in graph[module] if target.split('.')[0] in OUTSIDE
    ]
    assert found == [], 'the package never imports doors, configs, guest rooms, tests or benchmarks'


def test_nothing_but_its_own_room_imports_a_project() -> None:
    graph = graph_of(files_below('tools', 'configs', 'benchmarks'), REPO, on_import_only=False)
    found = [
        (module, target) for module in graph for target in graph[module] if target.split('.')[0] == 'projects'
    ]
    assert found == [], 'projects are guests: they import the package, nothing imports them'


def test_doors_import_only_the_standard_library_before_arguments_are_parsed() -> None:
    graph = graph_of(files_below('tools'), REPO, on_import_only=True)
    allowed = {*sys.stdlib_module_names, 'tools', 'internvl_mm_tools'}
    found = [
        (module, target)
        for module in graph
        for target in graph[module]
        if target.split('.')[0] not in allowed
    ]
    assert found == [], (
        'import torch and internvl_mm inside main, after parse_args: --help answers within 0.5 s'
    )


@pytest.mark.parametrize(
    ('module', 'text', 'wrong'),
    [
        ('internvl_mm/data/a.py', 'from ..models.x import y', ['internvl_mm.data.a imports internvl_mm.models.x']),
        ('internvl_mm/data/a.py', 'from internvl_mm import engine', ['internvl_mm.data.a imports internvl_mm.engine']),
        ('internvl_mm/ops/a.py', 'def f():\n  import internvl_mm.data', ['internvl_mm.ops.a imports internvl_mm.data']),
        ('internvl_mm/utils/a.py', 'from internvl_mm import __version__', []),
        ('internvl_mm/models/a.py', 'from ..data.b import c\nfrom . import d\nimport torch', []),
        ('internvl_mm/utils/a.py', 'from ..structures import b', []),
    ],
)  # fmt: skip
def test_the_guard_sees_backward_imports(tmp_path: Path, module: str, text: str, wrong: list[str]) -> None:
    files = [
        tmp_path / module,
        tmp_path / 'internvl_mm/engine/__init__.py',
        tmp_path / 'internvl_mm/__init__.py',
    ]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text if file == files[0] else '')
    assert backward_imports(graph_of(files, tmp_path, on_import_only=False)) == wrong


def test_the_guard_sees_cycles(tmp_path: Path) -> None:
    files = [tmp_path / 'a.py', tmp_path / 'b.py']
    files[0].write_text('import b')
    files[1].write_text('from a import x')
    assert set(find_cycle(graph_of(files, tmp_path, on_import_only=True))) == {'a', 'b'}
    files[1].write_text('def f():\n    from a import x')
    assert find_cycle(graph_of(files, tmp_path, on_import_only=True)) == []


def test_the_guard_sees_names_of_the_package() -> None:
    lines = [
        'import internvl_mm',
        'from internvl_mm import a',
        'from internvl_mm.b import c',
        'internvl_mm.d(internvl_mm.__file__)',
    ]
    assert package_names(ast.parse('\n'.join(lines))) == {'a', 'd', '__file__'}
