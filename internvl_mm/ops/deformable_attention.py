"""Multi-scale deformable attention: every query reads a few learned points of every level.

Shape letters: B batch, Q queries, K keys (the cells of all levels, concatenated), D width, H heads, d value width of a
head, L levels, P points per head and level.

Source: Deformable DETR, Zhu et al. 2021 (arXiv 2010.04159), equation 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from internvl_mm.utils.errors import ConfigError

SpatialShapes: TypeAlias = Tensor | Sequence[tuple[int, int]]


def multi_scale_deformable_attn(
    value: Tensor, spatial_shapes: SpatialShapes, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Weighted sum of bilinear samples; outside of a level's map there are zeros.

    Samples are taken and added up in fp32 (fp64 for fp64 values) whatever the dtype of the values: in bf16 a location
    on a map of 128 cells would be off by a quarter of a cell.

    Args:
        value: ``[B, K, H, d]``.
        spatial_shapes: ``(height, width)`` per level, as ``[L, 2]`` or a list; a list spares a synchronisation on CUDA.
        sampling_locations: ``(x, y)`` from 0 to 1 over the whole map ``[B, Q, H, L, P, 2]``.
        attention_weights: ``[B, Q, H, L, P]``.

    Returns:
        ``[B, Q, H·d]`` in the dtype of ``value``.
    """
    batch, keys, heads, width = value.shape
    shapes = _as_pairs(spatial_shapes)
    _check_keys(shapes, keys)
    queries = sampling_locations.shape[1]
    if not batch * queries:
        # grid_sample refuses empty batches; the sum keeps the graph whole.
        return value.new_zeros(batch, queries, heads * width) + value.sum() * 0
    exact = torch.promote_types(value.dtype, torch.float32)
    # [B, K, H, d] -> [B·H, d, K]; a head is an image of d channels for grid_sample.
    maps = value.permute(0, 2, 3, 1).flatten(0, 1).to(exact)
    # grid_sample counts from -1 to 1 and, without align_corners, puts cell centres at (i + 0.5) / size.
    grids = (2 * sampling_locations.to(exact) - 1).transpose(1, 2).flatten(0, 1)  # [B·H, Q, L, P, 2]
    weights = attention_weights.to(exact).transpose(1, 2).flatten(0, 1)  # [B·H, Q, L, P]
    # A scalar, which the first sum broadcasts to [B·H, d, Q].
    out = maps.new_zeros(())
    for level, cells in enumerate(maps.split([height * width for height, width in shapes], dim=-1)):
        sampled = F.grid_sample(
            cells.unflatten(-1, shapes[level]),
            grids[:, :, level],
            mode='bilinear',
            padding_mode='zeros',
            align_corners=False,
        )
        # [B·H, d, Q, P] summed per level: memory for one level at a time.
        out = out + (sampled * weights[:, None, :, level]).sum(-1)
    # [B·H, d, Q] -> [B, H·d, Q] -> [B, Q, H·d]: heads outermost, as the published output_proj reads them.
    return out.view(batch, heads * width, queries).transpose(1, 2).to(value.dtype)


# The name of the same function in mmcv.
multi_scale_deformable_attn_pytorch = multi_scale_deformable_attn


class MultiScaleDeformableAttention(nn.Module):
    """Deformable attention as the published adapters use it: no identity, no dropout, batch first.

    The parameters are named and shaped as those of the published ``MSDeformAttn`` (with its ``ratio``) and of
    ``mmcv.ops.MultiScaleDeformableAttention`` (``value_proj_ratio`` there), so states load both ways. What mmdet
    builds is mmcv's module, which adds the identity and dropout around the same function.

    Args:
        embed_dims: Width D of queries and input values.
        num_heads: H; divides both ``embed_dims`` and ``ratio * embed_dims``.
        num_levels: L.
        num_points: P.
        ratio: Width of the projected values as a share of D: H·d = int(ratio·D).

    Source: ViT-Adapter ``MSDeformAttn``; ``ratio`` 0.25 in InternViT-6B's, 0.5 or 1 in the original sizes.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        *,
        ratio: float = 1.0,
    ):
        super().__init__()
        value_dims = int(ratio * embed_dims)
        if not value_dims or value_dims % num_heads:
            raise ConfigError(
                f'ratio={ratio} of embed_dims={embed_dims} gives values {value_dims} wide, which num_heads={num_heads} '
                'heads cannot share: choose a divisor of that width'
            )
        self.num_heads, self.num_levels, self.num_points = num_heads, num_levels, num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dims, samples * 2)
        self.attention_weights = nn.Linear(embed_dims, samples)
        self.value_proj = nn.Linear(embed_dims, value_dims)
        self.output_proj = nn.Linear(value_dims, embed_dims)
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Look in one direction per head, point p at p + 1 cells, all points weighing the same."""
        # Without weights the bias alone decides: at first every query looks at the same pattern.
        nn.init.zeros_(self.sampling_offsets.weight)
        angles = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        # By the larger coordinate: with 8 heads the diagonals are (±1, ±1), whole cells like the axes.
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        # [H, 1, 1, 2] · [P, 1] -> [H, L, P, 2]
        steps = torch.arange(1, self.num_points + 1, dtype=torch.float32)[:, None]
        bias = (directions[:, None, None] * steps).expand(-1, self.num_levels, -1, -1)
        self.sampling_offsets.bias.copy_(bias.flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        value: Tensor,
        spatial_shapes: SpatialShapes,
        level_start_index: Tensor | None = None,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend from queries to the points around their references.

        Args:
            query: ``[B, Q, D]``.
            reference_points: Centres ``[B, Q, L, 2]`` as (x, y) from 0 to 1, or boxes ``[B, Q, L, 4]`` as (x, y,
                width, height); 1 in place of B or L holds for all.
            value: ``[B, K, D]``, level after level.
            spatial_shapes: ``(height, width)`` per level, ``[L, 2]`` or a list of pairs.
            level_start_index: Accepted because the published calls give it; it follows from ``spatial_shapes``.
            padding_mask: True where a key is padding ``[B, K]``; its value counts as zero.

        Returns:
            ``[B, Q, D]``.
        """
        del level_start_index
        shapes = _as_pairs(spatial_shapes)
        if len(shapes) != self.num_levels:
            raise ValueError(
                f'{len(shapes)} spatial shapes were given to attention with num_levels={self.num_levels}'
            )
        values = self.value_proj(value)  # [B, K, H·d]
        # After the projection, whose bias would otherwise give padding a value again.
        if padding_mask is not None:
            values = values.masked_fill(padding_mask[..., None], 0)
        # [B, K, H·d] -> [B, K, H, d]
        values = values.unflatten(-1, (self.num_heads, -1))
        points = (self.num_heads, self.num_levels, self.num_points)
        # [B, Q, H·L·P·2] -> [B, Q, H, L, P, 2]
        offsets = self.sampling_offsets(query).unflatten(-1, (*points, 2))
        # One softmax over all levels and points of a head.
        # [B, Q, H, L·P]
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1)).softmax(-1)
        locations = self._locations(reference_points, offsets, shapes)  # [B, Q, H, L, P, 2]
        mixed = multi_scale_deformable_attn(values, shapes, locations, weights.unflatten(-1, points[1:]))
        return self.output_proj(mixed)

    def _locations(self, references: Tensor, offsets: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """References plus offsets: in cells of the level for centres, in half boxes over P for boxes."""
        # [B, Q, L, 2 or 4] -> [B, Q, 1, L, 1, 2 or 4]
        references = references[:, :, None, :, None]
        if references.shape[-1] == 2:
            # Shapes are (height, width) but points (x, y). [L, 2], below [L, 1, 2] over the points.
            sizes = offsets.new_tensor([(width, height) for height, width in shapes], dtype=references.dtype)
            return references + offsets / sizes[:, None]
        if references.shape[-1] == 4:
            # Offsets begin at P cells or less, so divided by P the first samples lie within the box.
            return references[..., :2] + offsets / self.num_points * references[..., 2:] * 0.5
        raise ValueError(
            f'reference points have {references.shape[-1]} numbers each: give (x, y) or (x, y, width, height)'
        )


def _as_pairs(spatial_shapes: SpatialShapes) -> list[tuple[int, int]]:
    if isinstance(spatial_shapes, Tensor):
        spatial_shapes = spatial_shapes.tolist()
    return [(int(height), int(width)) for height, width in spatial_shapes]


def _check_keys(shapes: list[tuple[int, int]], keys: int) -> None:
    cells = sum(height * width for height, width in shapes)
    if cells != keys:
        raise ValueError(f'spatial shapes {shapes} have {cells} cells, but there are {keys} values')
