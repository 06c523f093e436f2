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
    if min(args.gpus) < 1:
        parser.error(f'--gpus {" ".join(map(str, args.gpus))}: each is at least 1')
    if not args.memory > 0:
        parser.error(f'--memory {args.memory:g}: a GPU has more than 0 GiB')

    from internvl_mm.utils.door import run_door

    return run_door(lambda: plan(args))


def plan(args: argparse.Namespace) -> None:
    """Print a table per config.

    Raises:
        UserError: A mistake in a config or the options.
    """
    from internvl_mm.engine.config import check_config, load_config
    from internvl_mm.engine.memory import plan_rows, print_plan
    from internvl_mm.engine.memory_plan import read_sizes

    for name in args.configs:
        cfg = load_config(name, args.cfg_options)
        # Settings alone: a plan opens no file, and weights and data may be elsewhere.
        check_config(cfg, purpose='read')
        sizes = read_sizes(cfg)
        print_plan(name, plan_rows(sizes, args.gpus), capacity=args.memory)


if __name__ == '__main__':
    sys.exit(main())
