"""Evaluate a checkpoint on the benchmarks of a config.

python tools/test.py quickstart/finetune_intern_vit_tiny_digits work_dirs/finetune_intern_vit_tiny_digits
"""

from __future__ import annotations

import argparse
import sys


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, check the config, evaluate; 0 on success, 2 after a mistake in what was given."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('config', help='a config file, or the name of a shipped one')
    parser.add_argument(
        'checkpoint', nargs='?', help='a checkpoint folder or file (default: what the config loads)'
    )
    parser.add_argument('--work-dir', help='where results are kept (default: work_dirs/<name of the config>)')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='replace settings: a.b.c=1'
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], help='how processes were started'
    )
    parser.add_argument(
        '--benchmarks', help='names separated by commas (default: those the config says, or all)'
    )
    parser.add_argument('--show-dir', help='draw predictions beside labels into this folder')
    args = parser.parse_args(argv)

    from internvl_mm.utils.door import run_door

    return run_door(lambda: test(args))


def test(args: argparse.Namespace) -> None:
    """Run what the arguments say.

    Raises:
        UserError: A mistake in the config, the options, the checkpoint or the data.
    """
    from pathlib import Path

    from internvl_mm.engine.config import check_config, load_config, set_checkpoint, set_option

    cfg = load_config(args.config, args.cfg_options)
    set_option(
        cfg, 'work_dir', args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(cfg.filename).stem}'
    )
    set_checkpoint(cfg, args.checkpoint)
    # A config of a run folder may say True, and an evaluation continues nothing.
    set_option(cfg, 'resume', False)
    set_option(cfg, 'launcher', args.launcher)
    set_option(cfg, 'test_benchmarks', args.benchmarks and args.benchmarks.split(','))
    if args.show_dir:
        from internvl_mm.engine.hooks.show_predictions import ShowPredictionsHook

        show = dict(type=ShowPredictionsHook, folder=args.show_dir)
        set_option(cfg, 'custom_hooks', [*(cfg.get('custom_hooks') or []), show])
    check_config(cfg, purpose='test')
    from internvl_mm.engine.runner import build_runner

    build_runner(cfg, job='test').test()


if __name__ == '__main__':
    sys.exit(main())
