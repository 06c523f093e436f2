"""Reading config files as text: what can be said about them before they run."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path

from internvl_mm.utils.errors import ConfigError, did_you_mean


@dataclass
class Source:
    """The names a config file defines and the files they come from, its parents' included."""

    names: set[str] = field(default_factory=set)
    files: set[Path] = field(default_factory=set)

    def include(self, other: Source) -> None:
        """Add what another file brings in."""
        self.names |= other.names
        self.files |= other.files


def scan_config(path: Path) -> Source:
    """Check the syntax, the style and the parents of a config file, and of all its parents, without running them.

    Args:
        path: A Python config.

    Raises:
        ConfigError: A syntax error, an old-style ``_base_``, a missing parent, or a name the parent does not define.
    """
    text = path.read_text(encoding='utf-8')
    try:
        tree = ast.parse(text, filename=str(path))
    except SyntaxError as error:
        line = (error.text or '').strip()
        raise ConfigError(f'{path}:{error.lineno}: {error.msg}\n  {line}') from error

    source = Source(files={path})
    for node in tree.body:
        # read_base() is the only `with` of a config; mmengine runs what stands in it before the rest.
        if isinstance(node, ast.With):
            for statement in node.body:
                source.include(_inherited(statement, path))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            # `import a.b` binds a.
            source.names |= {alias.asname or alias.name.partition('.')[0] for alias in node.names}
        else:
            source.names |= _assigned(node)
    if '_base_' in source.names:
        raise ConfigError(
            f"{path}: '_base_ = ...' is the old style of inheritance. Name the parent by import instead:\n"
            '  from mmengine.config import read_base\n'
            '  with read_base():\n'
            '      from .._base_.runtime import *'
        )
    return source


def _assigned(node: ast.stmt) -> set[str]:
    # However deep: conditions and loops bind names, too.
    stored = (n for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    return {name.id for name in stored}


def _inherited(statement: ast.stmt, path: Path) -> Source:
    """What one import under ``read_base()`` brings in."""
    where = f'{path}:{statement.lineno}'
    if not isinstance(statement, ast.ImportFrom):
        raise ConfigError(f"{where}: under read_base() only 'from <parent config> import ...' is allowed")
    if statement.level == 0:
        # an installed package: mmengine finds it
        return Source({alias.asname or alias.name for alias in statement.names})
    module = statement.module or ''
    # One dot is the folder of the file, each further one a folder up.
    parent = (
        path.parent.joinpath(*['..'] * (statement.level - 1), *module.split('.')).with_suffix('.py').resolve()
    )
    if not parent.is_file():
        # Parents lie beside one another; the right name is most often a neighbour of the wrong one.
        siblings = [file.stem for file in parent.parent.glob('*.py')]
        raise ConfigError(
            f'{where}: the parent config {parent} does not exist.{did_you_mean(parent.stem, siblings)}'
        )
    defined = scan_config(parent)
    inherited = Source(files=defined.files)
    for alias in statement.names:
        if alias.name == '*':
            inherited.names |= defined.names
        elif alias.name not in defined.names:
            raise ConfigError(
                f"{where}: '{alias.name}' is not defined in {parent}.{did_you_mean(alias.name, defined.names)}"
            )
        else:
            inherited.names.add(alias.asname or alias.name)
    return inherited
