"""Bicubic resampling of position embeddings and patch kernels, as the published loaders do it.

No antialiasing and no energy rescaling: both are needed to reproduce the published features (timm antialiases).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from internvl_mm.utils.errors import CheckpointError


def _bicubic(images: Tensor, size: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
    return F.interpolate(images.to(dtype), size=size, mode='bicubic', align_corners=False).to(images.dtype)


def resize_position_embedding(
    embedding: Tensor, grid: tuple[int, int], *, num_prefix: int = 1, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Resample a learned position embedding to another patch grid.

    Args:
        embedding: ``[1, num_prefix + g·g, D]``; the prefix (class token's slot) is kept as it is.
        grid: Wanted grid ``(h, w)``.
        num_prefix: Number of slots before the patches.
        dtype: Dtype to resample in; the result has the embedding's. The published HF class takes fp32, the published
            loaders of ``.pth`` files the dtype of the file.

    Returns:
        ``[1, num_prefix + h·w, D]``; the input itself when the grid is unchanged.

    Raises:
        CheckpointError: The patch slots do not form a square, which only damaged or foreign weights do.
    """
    prefix, patches = embedding[:, :num_prefix], embedding[:, num_prefix:]
    side = round(patches.shape[1] ** 0.5)
    if side * side != patches.shape[1]:
        raise CheckpointError(
            f'position embedding of shape {tuple(embedding.shape)} has {patches.shape[1]} patch slots, which is not a '
            f'square: is the number of prefix tokens {num_prefix} right?'
        )
    if grid == (side, side):
        return embedding
    maps = patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # [1, D, g, g]
    resized = _bicubic(maps, grid, dtype).flatten(2).transpose(1, 2)  # [1, h·w, D]
    return torch.cat([prefix, resized], dim=1)  # [1, num_prefix + h·w, D]


def resize_patch_kernel(weight: Tensor, patch_size: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Resample a patch convolution's kernel ``[D, C, p, p]`` to another patch size, in ``dtype``.

    Responses grow by about the square of the ratio; the published patch-16 models were made this way.
    """
    if weight.shape[-1] == patch_size:
        return weight
    return _bicubic(weight, (patch_size, patch_size), dtype)
