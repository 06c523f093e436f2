"""Weights from layout to layout: which way a conversion goes."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from internvl_mm.models.convert.chat_report import CHAT_LAYOUTS, convert_chat, print_chat_report
from internvl_mm.models.convert.names import Layout
from internvl_mm.models.convert.report import convert, print_report
from internvl_mm.utils.errors import ConfigError

from .chat_export import export_chat
from .chat_export_native import export_chat_native
from .single_file import write_single_file


def convert_to(
    source: Path, target: Path, to: str, *, separate: bool = False, num_heads: int | None = None
) -> bool:
    """Write weights in another layout and print the report.

    Args:
        source: Folder or file in any layout, or a training state, run folder or work_dir.
        target: New folder or file.
        to: A layout, or ``'safetensors'``: all tensors under their own names in one file.
        separate: Of a training run of a chat model: keep its adapters beside the weights.
        num_heads: Attention heads, when no config.json says it.

    Returns:
        Whether every tensor came back the same and the outputs agree.

    Raises:
        ConfigError: An option that this way has no use for.
        UserError: Weights that cannot be read, or a target that cannot be written.
    """
    is_run = not (source / 'config.json').exists()
    if separate and not (is_run and to.startswith('chat')):
        raise ConfigError('--separate is for SRC a training run and --to chat or chat-native; leave it out')
    if num_heads is not None and to in (*CHAT_LAYOUTS, 'safetensors'):
        raise ConfigError('--num-heads is for the layouts of the ViT alone; leave it out')
    if to == 'safetensors':
        write_single_file(source, target)
        return True
    if to == 'chat' and is_run:
        export_chat(source, target, merge=not separate)
        return True
    if to in CHAT_LAYOUTS:
        if to == 'chat-native' and is_run:
            chat = export_chat_native(source, target, merge=not separate)
        else:
            chat = convert_chat(source, target, to)
        print_chat_report(chat, target)
        return chat.exact
    conversion = convert(source, target, cast(Layout, to), num_heads=num_heads)
    print_report(conversion, target)
    return conversion.exact
