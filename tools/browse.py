"""Draw samples of a config's data exactly as the model gets them.

python tools/browse.py quickstart/finetune_intern_vit_tiny_digits.py --num 24 --out samples.png
"""

from __future__ import annotations

import argparse
import sys


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, check the config, draw; 0 on success, 2 after a mistake in what was given."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('config', help='a config file, or the name of a shipped one')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='replace settings: a.b.c=1'
    )
    parser.add_argument('--benchmark', help='draw this benchmark (default: the training data, augmented)')
    parser.add_argument('--num', type=int, default=24, help='how many samples (default: %(default)s)')
    parser.add_argument(
        '--out', default='samples.png', help='where to write the picture (default: %(default)s)'
    )
    args = parser.parse_args(argv)
    if args.num < 1:
        parser.error(f'--num={args.num}: at least one sample is needed')

    from internvl_mm.utils.door import run_door

    return run_door(lambda: browse(args))


def browse(args: argparse.Namespace) -> None:
    """Write the picture.

    Raises:
        UserError: A mistake in the config, the options or the data.
    """
    from internvl_mm.engine.browse import browse
    from internvl_mm.engine.config import check_config, load_config
    from internvl_mm.utils.console import console
    from internvl_mm.utils.errors import DataError

    cfg = load_config(args.config, args.cfg_options)
    check_config(cfg, purpose='train' if args.benchmark is None else 'test')
    picture = browse(cfg, benchmark=args.benchmark, num=args.num)
    try:
        picture.save(args.out)
    except (OSError, ValueError) as error:  # no such folder, or an ending that is no picture format
        raise DataError(f'--out {args.out}: the picture cannot be written: {error}') from error
    console.print(f'{args.num} samples drawn to {args.out}')


if __name__ == '__main__':
    sys.exit(main())
