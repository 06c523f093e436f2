"""Run benchmarks by name and print their ratios: ``python benchmarks/run.py NAME… [--json]``.

Each benchmark is a module of this folder with ``run(quick: bool) -> list[Row]``; its first docstring line says what it
claims. Results are stored with their environment in ``benchmarks/results/<name>.json``.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
NOT_BENCHMARKS = {'run', 'harness', '__init__'}


def available() -> dict[str, str]:
    """Name to first docstring line of every benchmark, without importing them."""
    found = {}
    for path in sorted(FOLDER.glob('*.py')):
        if path.stem not in NOT_BENCHMARKS:
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
            found[path.stem] = docstring.splitlines()[0] if docstring else ''
    return found


def main(argv: list[str] | None = None) -> int:
    """Parse, run, print, store."""
    names = available()
    listing = '\n'.join(f'  {name:20} {line}' for name, line in names.items())
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog=f'benchmarks:\n{listing}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'names', nargs='+', choices=list(names), metavar='NAME', help='one or more benchmarks'
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument('--quick', action='store_true', help='fewer rounds; results are not stored')
    options = parser.parse_args(argv)

    sys.path.insert(0, str(FOLDER.parent))
    from benchmarks.harness import environment
    from internvl_mm.utils.console import print_table

    for name in options.names:
        rows = importlib.import_module(f'benchmarks.{name}').run(quick=options.quick)
        record = dict(benchmark=name, environment=environment(), rows=[row.as_dict() for row in rows])
        if not options.quick:
            results = FOLDER / 'results' / f'{name}.json'
            results.parent.mkdir(exist_ok=True)
            results.write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')
        if options.json:
            json.dump(record, sys.stdout, indent=1)
            sys.stdout.write('\n')
        else:
            table = [
                (
                    r.what,
                    r.peer,
                    r.ours,
                    r.theirs,
                    r.unit,
                    f'{r.ratio:.2f} [{r.low:.2f}, {r.high:.2f}]',
                    r.goal,
                    r.note,
                )
                for r in rows
            ]
            header = ('what', 'peer', 'ours', 'theirs', 'unit', 'ratio [95 %]', 'goal', 'note')
            print_table(names[name], header, table)
    return 0


if __name__ == '__main__':
    sys.exit(main())
