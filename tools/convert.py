"""Convert InternViT or chat models between published, .pth, timm and native layouts, and prove it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


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
    arguments = parse(argv)
    from internvl_mm.utils.door import run_door

    return run_door(lambda: convert_weights(arguments))


def convert_weights(arguments: argparse.Namespace) -> int:
    """Do what the arguments say; 0 when nothing was lost, 1 otherwise.

    Raises:
        UserError: Weights that cannot be read, or a target that cannot be written.
    """
    from internvl_mm.models.convert.chat_report import CHAT_LAYOUTS, convert_chat, print_chat_report
    from internvl_mm.models.convert.report import convert, print_report
    from internvl_mm.utils.errors import ConfigError

    if arguments.to == 'safetensors':
        from internvl_mm.engine.single_file import write_single_file

        write_single_file(arguments.source, arguments.target)
        return 0
    is_run = not (arguments.source / 'config.json').exists()
    if arguments.separate and not (is_run and arguments.to.startswith('chat')):
        raise ConfigError('--separate is for SRC a training run and --to chat or chat-native; leave it out')
    if arguments.num_heads is not None and arguments.to in CHAT_LAYOUTS:
        raise ConfigError('--num-heads is for the layouts of the ViT alone; leave it out')
    if arguments.to == 'chat' and is_run:
        from internvl_mm.engine.chat_export import export_chat

        export_chat(arguments.source, arguments.target, merge=not arguments.separate)
        return 0
    if arguments.to in CHAT_LAYOUTS:
        if arguments.to == 'chat-native' and is_run:
            from internvl_mm.engine.chat_export_native import export_chat_native

            chat = export_chat_native(arguments.source, arguments.target, merge=not arguments.separate)
        else:
            chat = convert_chat(arguments.source, arguments.target, arguments.to)
        print_chat_report(chat, arguments.target)
        return 0 if chat.exact else 1
    conversion = convert(arguments.source, arguments.target, arguments.to, num_heads=arguments.num_heads)
    print_report(conversion, arguments.target)
    return 0 if conversion.exact else 1


if __name__ == '__main__':
    sys.exit(main())
