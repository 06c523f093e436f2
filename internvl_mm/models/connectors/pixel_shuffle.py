"""Pixel shuffle: neighbouring patch tokens become one token with more channels."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from internvl_mm.utils.errors import ConfigError

ShuffleVersion = Literal['v1', 'v2']
VERSIONS: tuple[ShuffleVersion, ...] = ('v1', 'v2')


def cell_side(downsample_ratio: float) -> int:
    """Patches k on the side of a cell for the published ``downsample_ratio`` 1/k.

    Raises:
        ConfigError: The ratio is not one over a whole number.
    """
    side = round(1 / downsample_ratio) if downsample_ratio > 0 else 0
    if side < 1 or abs(side * downsample_ratio - 1) > 1e-6:
        raise ConfigError(
            f'downsample_ratio={downsample_ratio!r}: it must be 1/k for a whole number k of patches, such as 0.5'
        )
    return side


def pixel_shuffle(patches: Tensor, side: int, version: ShuffleVersion) -> Tensor:
    """Gather cells of ``side`` × ``side`` patches into one token each.

    Channels of cell (i, j) are its patches row by row, in both versions. ``'v2'`` gives the cells row by row; ``'v1'``
    column by column, as the models up to V1-2-Plus were trained: the published code forgot to transpose back.

    Args:
        patches: Patch grid ``[B, h, w, C]``.
        side: Patches k on the side of a cell; divides h and w.
        version: Order of the cells.

    Returns:
        ``[B, (h/k)·(w/k), k·k·C]``.

    Source: InternVL ``InternVLChatModel.pixel_shuffle``.
    """
    cells = patches.unflatten(2, (-1, side)).unflatten(1, (-1, side))  # [B, i, k, j, k, C]
    # v2: [B, i, j, k, k, C]; v1: [B, j, i, k, k, C]. The patches inside a cell lie alike in both.
    order = (0, 1, 3, 2, 4, 5) if version == 'v2' else (0, 3, 1, 2, 4, 5)
    # Channels first ([..., k·k·C]), then places ([B, (h/k)·(w/k), k·k·C]).
    return cells.permute(order).flatten(3).flatten(1, 2)
