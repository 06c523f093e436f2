"""Train the model of a config.

python tools/train.py quickstart/finetune_intern_vit_tiny_digits.py --cfg-options train_dataloader.batch_size=32
"""

from __future__ import annotations

import argparse
import sys


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, check the config, train; 0 on success, 2 after a mistake in what was given."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('config', help='a config file, or the name of a shipped one')
    parser.add_argument('--work-dir', help='where runs are kept (default: work_dirs/<name of the config>)')
    parser.add_argument(
        '--resume', nargs='?', const='auto', help='continue the last run of the work dir, or from a path'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='replace settings: a.b.c=1'
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], help='how processes were started'
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='build all, try one batch, print what each strategy needs, stop',
    )
    args = parser.parse_args(argv)

    from internvl_mm.utils.door import run_door

    return run_door(lambda: train(args))


def train(args: argparse.Namespace) -> None:
    """Run what the arguments say.

    Raises:
        UserError: A mistake in the config, the options or the data.
    """
    from pathlib import Path

    from internvl_mm.engine.config import check_config, load_config, set_option

    cfg = load_config(args.config, args.cfg_options)
    set_option(
        cfg, 'work_dir', args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(cfg.filename).stem}'
    )
    set_option(cfg, 'resume', True if args.resume == 'auto' else args.resume)
    set_option(cfg, 'launcher', args.launcher)
    check_config(cfg)
    if args.dry_run:
        from internvl_mm.engine.dry_run import dry_run

        dry_run(cfg)
        return
    from internvl_mm.engine.runner import build_runner

    build_runner(cfg).train()


if __name__ == '__main__':
    sys.exit(main())
