"""The console command: ``internvl-mm DOOR ...`` is ``python tools/DOOR.py ...`` without a checkout."""

from __future__ import annotations

import ast
import difflib
import importlib
import sys
from pathlib import Path

TOOLS = Path(__file__).parent
USAGE = 'usage: internvl-mm DOOR [arguments ...]   (--help after a door lists its arguments)\n'


def find_doors() -> dict[str, str]:
    """Return the name of every door and the first line of its docstring.

    A door is a file below ``tools/`` that defines ``main(argv)``; its name is its path without ``.py``.
    Files are parsed, not imported: listing the doors must not cost the import of what is behind them.
    """
    doors = {}
    for file in sorted(TOOLS.rglob('*.py')):
        tree = ast.parse(file.read_text(encoding='utf-8'))
        has_main = any(isinstance(node, ast.FunctionDef) and node.name == 'main' for node in tree.body)
        if has_main and file != Path(__file__):
            name = file.relative_to(TOOLS).with_suffix('').as_posix()
            doors[name] = (ast.get_docstring(tree) or '').partition('\n')[0]
    return doors


def main(argv: list[str] | None = None) -> int | None:
    """Run the door named first with the arguments that follow; return its exit status.

    Args:
        argv: The words after ``internvl-mm``; those of this process when ``None``.
    """
    words = sys.argv[1:] if argv is None else argv
    doors = find_doors()
    if not words or words[0] in ('-h', '--help'):
        width = max(map(len, doors), default=0)
        print(USAGE, *(f'  {name:{width}}  {purpose}' for name, purpose in doors.items()), sep='\n')
        return 0
    name = words[0].replace('-', '_')
    if name not in doors:
        close = difflib.get_close_matches(name, doors, n=1, cutoff=0.5)
        hint = f"Did you mean '{close[0]}'?" if close else f'There are: {", ".join(doors)}.'
        print(f"internvl-mm: there is no door '{words[0]}'. {hint}", file=sys.stderr)
        return 2
    sys.argv[0] = f'internvl-mm {name}'  # what the door's own --help calls itself
    return importlib.import_module('.' + name.replace('/', '.'), __package__).main(words[1:])
