"""Convert InternViT or chat models between published, .pth, timm and native layouts, and prove it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='convert',
        description=__doc__,
        epilog='Exit status: 0 when every tensor came back the same and the outputs agree, 1 when not, 2 on a mistake.',
    )
    parser.add_argument(
        'source', type=Path, metavar='SRC', help='folder or file in any layout; a chat model works too'
    )
    parser.add_argument('target', type=Path, metavar='DST', help='new folder, or new .pth file')
    parser.add_argument(
        '--to',
        required=True,
        choices=[
            'hf',
            'pth',
            'timm',
            'native',
            'chat',
            'chat-native',
            'projector',
            'language',
            'safetensors',
        ],
        help='layout to write: the first four of the ViT alone, the next of a chat model (chat: published, adapters '
        'merged; chat-native: of transformers) or one part of it; safetensors: all of a training state in one file, '
        'also of strategies whose processes wrote a share each',
    )
    parser.add_argument(
        '--separate', action='store_true', help='of a training run: keep its adapters beside the weights'
    )
    parser.add_argument('--num-heads', type=int, help='attention heads, when no config.json says it')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Convert, print the report and return the exit status."""
    options = vars(parse(argv))
    from internvl_mm.utils.door import run_door

    return run_door(lambda: convert_weights(**options))


def convert_weights(**options: Any) -> int:
    """See :func:`internvl_mm.engine.conversion.convert_to`; 0 when nothing was lost, 1 otherwise."""
    from internvl_mm.engine.conversion import convert_to

    return 0 if convert_to(**options) else 1


if __name__ == '__main__':
    sys.exit(main())
