"""Say how much memory per GPU a config needs with each strategy and number of GPUs.

python tools/plan.py chat/finetune_internvl2_26b.py --gpus 8 16 32 --memory 80
"""

from __future__ import annotations

import argparse
import sys


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, plan; 0 on success, 2 after a mistake in what was given."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('configs', nargs='+', help='config files, or names of shipped ones')
    parser.add_argument('--gpus', nargs='+', type=int, default=[8, 16, 32, 64], help='numbers of GPUs')
    parser.add_argument('--memory', type=float, default=80, help='GiB of a GPU (default: 80)')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='replace settings: a.b.c=1'
    )
    args = parser.parse_args(argv)

    from internvl_mm.utils.door import run_door

    return run_door(lambda: plan(args))


def plan(args: argparse.Namespace) -> None:
    """Print a table per config.

    Raises:
        UserError: A mistake in a config or the options.
    """
    from internvl_mm.engine.config import load_config
    from internvl_mm.engine.memory_plan import FORMULAS, plan_rows, read_sizes
    from internvl_mm.utils.console import console, print_table

    columns = ('strategy', 'GPUs', 'weights', 'gradients', 'optimiser', 'activations', 'GiB per GPU', 'host')
    for name in args.configs:
        rows = plan_rows(read_sizes(load_config(name, args.cfg_options)), args.gpus)
        # A tenth stays free for workspaces and the allocator.
        fitted = [(*row, 'yes' if row[6] <= 0.9 * args.memory else '') for row in rows]
        print_table(name, (*columns, f'fits {args.memory:g}'), fitted)
    console.print(FORMULAS, highlight=False)


if __name__ == '__main__':
    sys.exit(main())
