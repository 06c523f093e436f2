"""Print a config as it will run: parents and options resolved.

python tools/print_config.py quickstart/linear_intern_vit_tiny_digits --diff quickstart/knn_intern_vit_tiny_digits
"""

from __future__ import annotations

import argparse
import sys


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, print and check the config; 0 on success, 2 after a mistake in what was given."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('config', help='a config file, or the name of a shipped one')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='replace settings: a.b.c=1'
    )
    parser.add_argument(
        '--diff', metavar='OTHER', help='print what changes from this config to OTHER instead'
    )
    args = parser.parse_args(argv)

    from internvl_mm.utils.door import run_door

    return run_door(lambda: print_config(args))


def print_config(args: argparse.Namespace) -> None:
    """Print, then check.

    Raises:
        UserError: The config cannot be read, or has a mistake.
    """
    from difflib import unified_diff

    from rich.syntax import Syntax

    from internvl_mm.engine.config import check_config, load_config
    from internvl_mm.utils.console import console

    cfg = load_config(args.config, args.cfg_options)
    text, language = cfg.pretty_text, 'python'
    if args.diff:
        other = load_config(args.diff)
        lines = unified_diff(
            text.splitlines(), other.pretty_text.splitlines(), args.config, args.diff, n=1, lineterm=''
        )
        text, language = '\n'.join(lines), 'diff'
    # a pipe gets the text alone: no colour, no padding, no wrapped lines
    console.print(Syntax(text, language)) if console.is_terminal else print(text)
    check_config(cfg, purpose='read')


if __name__ == '__main__':
    sys.exit(main())
