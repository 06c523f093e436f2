"""Write DigitScenes: scenes of real handwritten digits in every task's format, without a download.

python tools/dataset_converters/digit_scenes.py --out data/digit_scenes --preview digit_scenes.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Write the data set and, if asked, its preview; return the exit status.

    Args:
        argv: Command-line arguments; those of the process by default.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', required=True, type=Path, help='folder to create')
    parser.add_argument('--canvas', type=int, default=112, help='side of scenes and video frames in pixels')
    parser.add_argument('--digit-canvas', type=int, default=56, help='side of single-digit images in pixels')
    parser.add_argument('--train-size', type=int, default=1437, help='training scenes and training digits')
    parser.add_argument('--test-size', type=int, default=360, help='test scenes and test digits')
    parser.add_argument('--seed', type=int, default=0, help='equal seeds give equal data')
    parser.add_argument('--preview', type=Path, metavar='PNG', help='also draw a contact sheet to this file')
    args = parser.parse_args(argv)

    from internvl_mm.utils.door import run_door

    return run_door(lambda: digit_scenes(args))


def digit_scenes(args: argparse.Namespace) -> None:
    """Write what the arguments say.

    Raises:
        UserError: An impossible setting, or a folder that holds something else.
    """
    from internvl_mm.data.digit_scenes.preview import check_preview_path, draw_preview
    from internvl_mm.data.digit_scenes.settings import DigitSceneSettings
    from internvl_mm.data.digit_scenes.write import write_digit_scenes

    if args.preview:
        check_preview_path(args.preview)
    settings = DigitSceneSettings(
        args.train_size, args.test_size, canvas=args.canvas, digit_canvas=args.digit_canvas, seed=args.seed
    )
    write_digit_scenes(args.out, settings=settings)
    if args.preview:
        draw_preview(args.out, args.preview)


if __name__ == '__main__':
    sys.exit(main())
