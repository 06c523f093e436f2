"""Compare our outputs with recorded outputs of the published implementation."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='check_golden',
        description=__doc__,
        epilog='Exit status: 0 when every case passed, 1 when one failed (also for want of a checker), 2 on a mistake.',
    )
    parser.add_argument(
        'folder', type=Path, metavar='DIR', help='folder of case folders, such as tests/data/golden'
    )
    parser.add_argument(
        '--tol', type=float, default=1e-4, help='largest absolute difference that passes (1e-4)'
    )
    parser.add_argument(
        '--only', default='', metavar='KIND,...', help='check these kinds alone, such as vit,probe'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Print one line per case and the counts; return the exit status."""
    arguments = parse(argv)
    from internvl_mm.utils.door import run_door

    return run_door(lambda: check_golden(arguments))


def check_golden(arguments: argparse.Namespace) -> int:
    """Check what the arguments say; 0 when every case passed, 1 otherwise.

    Raises:
        UserError: A folder without cases, or a kind without a checker.
    """
    from internvl_mm.evaluation.golden import check_folder
    from internvl_mm.utils.console import console

    counts: Counter[str] = Counter()
    only = [kind for kind in arguments.only.split(',') if kind]
    for result in check_folder(arguments.folder, tolerance=arguments.tol, only=only):
        counts[result.verdict] += 1
        console.print(str(result), soft_wrap=True, highlight=False)
    failed = counts.total() - counts['PASS']
    if counts['UNKNOWN']:
        console.print(f'{counts["UNKNOWN"]} of a kind without a checker count as failed', highlight=False)
    console.print(f'{counts["PASS"]} passed, {failed} failed', highlight=False)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
