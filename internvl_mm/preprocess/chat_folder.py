"""How a published chat model prepares its inputs, from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from internvl_mm.preprocess.chat import ChatEncoder
from internvl_mm.preprocess.conversation import CHAT_TEMPLATES
from internvl_mm.preprocess.tiling import TILE, CropTiling, DynamicTiling, PadTiling, SquashTiling, Tiling
from internvl_mm.utils.errors import ConfigError


def encoder_of(folder: str | Path, *, template: str | None = None, **options: Any) -> ChatEncoder:
    """The encoder that a chat model was made with: its tokenizer, template, system message and tiling.

    Args:
        folder: Of the model, with ``config.json`` and the tokenizer's files.
        template: Instead of the config's.
        options: Of :class:`ChatEncoder`, instead of the config's.

    Raises:
        ConfigError: There is no such folder, or its config names no template.
    """
    config = _read_config(folder)
    name = template or config.get('template')
    if not name:
        raise ConfigError(f"{folder}: config.json has no 'template'; name one: {', '.join(CHAT_TEMPLATES)}")
    vision = config.get('vision_config', {})
    # In the order of the published model code, which also sizes the position embeddings by it.
    size = config.get('force_image_size') or vision.get('image_size', TILE)
    # Patches of one tile; the connector makes one token of 1 / downsample² of them.
    cells = (size // vision.get('patch_size', 14)) ** 2
    settings = dict(
        tokens_per_tile=int(cells * config.get('downsample_ratio', 0.5) ** 2),  # 256 at 448 px
        tiling=_tiling(config, size),
        system_message=config.get('system_message'),
    )
    return ChatEncoder(str(folder), name, **{**settings, **options})


def tiling_of(folder: str | Path, size: int) -> Tiling:
    """How a chat model cuts pictures.

    Args:
        folder: Of the model, with ``config.json``.
        size: Side of a tile in pixels.

    Raises:
        ConfigError: There is no such folder.
    """
    return _tiling(_read_config(folder), size)


def _read_config(folder: str | Path) -> dict[str, Any]:
    try:
        return json.loads((Path(folder) / 'config.json').read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'{folder}: no folder of a chat model, config.json cannot be read ({error})'
        ) from error


def _tiling(config: dict[str, Any], size: int) -> Tiling:
    """Defaults are those of the published config classes."""
    if 'mm_vision_tower' in config:  # LLaVA's
        return PadTiling(size) if config.get('image_aspect_ratio') == 'pad' else CropTiling(size)
    if config.get('dynamic_image_size'):
        low, high = config.get('min_dynamic_patch', 1), config.get('max_dynamic_patch', 6)
        return DynamicTiling(high, min_num=low, size=size, thumbnail=bool(config.get('use_thumbnail')))
    return PadTiling(size) if config.get('pad2square') else SquashTiling(size)
