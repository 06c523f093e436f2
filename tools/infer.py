"""Run a trained model on images: classes, label maps or objects, as JSON and drawn.

python tools/infer.py photos/ --config quickstart/finetune_intern_vit_tiny_digits \
    --checkpoint work_dirs/finetune_intern_vit_tiny_digits --out found
"""

from __future__ import annotations

import argparse
import sys


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, check the config, predict; 0 on success, 2 after a mistake in what was given."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='image files, or folders of them')
    parser.add_argument('--config', required=True, help='a config file, or the name of a shipped one')
    parser.add_argument('--checkpoint', help='a checkpoint folder or file (default: what the config loads)')
    parser.add_argument('--out', default='inferred', help='folder for results (default: %(default)s)')
    parser.add_argument('--batch-size', type=int, default=8, help='images at a time (default: %(default)s)')
    parser.add_argument('--min-score', type=float, default=0.3, help='of objects (default: %(default)s)')
    parser.add_argument('--benchmark', help='read images as this benchmark does (default: the first)')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='replace settings: a.b.c=1'
    )
    args = parser.parse_args(argv)
    if args.batch_size < 1:
        parser.error(f'--batch-size={args.batch_size}: at least one image is needed')

    from internvl_mm.utils.door import run_door

    return run_door(lambda: infer(args))


def infer(args: argparse.Namespace) -> None:
    """Write results, pictures and masks.

    Raises:
        UserError: A mistake in the config, the options, the checkpoint or the images.
    """
    from internvl_mm.engine.config import check_config, load_config, set_checkpoint
    from internvl_mm.serving import Inferencer, find_images
    from internvl_mm.utils.console import console

    find_images(args.images)  # a wrong path is told before the model is built
    cfg = load_config(args.config, args.cfg_options)
    set_checkpoint(cfg, args.checkpoint)
    check_config(cfg, purpose='read')
    inferencer = Inferencer(cfg, benchmark=args.benchmark)
    results = inferencer.run(args.images, args.out, batch_size=args.batch_size, min_score=args.min_score)
    console.print(f'{len(results["images"])} images to {args.out}, {len(results["failed"])} left out')


if __name__ == '__main__':
    sys.exit(main())
