"""Parts of ViT-Adapter: a convolutional stem, and two-way deformable attention between its maps and the ViT's tokens.

Shape letters: B batch, N patches of the ViT at 1/16, D width, M = 21/4·N cells of the maps at 1/8, 1/16 and 1/32, one
after the other, H heads. Modules are named as in published checkpoints.

Source: Chen et al. 2022, "Vision Transformer Adapter for Dense Predictions" (arXiv 2205.08534).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from internvl_mm.models.layers import ChannelLayerNorm
from internvl_mm.ops import MultiScaleDeformableAttention
from internvl_mm.utils.errors import ConfigError

MapNorm = Literal['batch', 'channel']
Grid: TypeAlias = tuple[int, int]
# Cells of the maps the tokens c stand for, per cell of the ViT's grid along one side; finest first.
_LEVELS = 3


def build_map_norm(kind: MapNorm, dim: int) -> nn.Module:
    """Norm of maps ``[B, C, h, w]``.

    Args:
        kind: ``'batch'`` in the original adapter, which the strategies synchronise over processes on any device;
            ``'channel'`` in the 6B one.
        dim: Channels C.

    Raises:
        ConfigError: Another kind.
    """
    if kind == 'batch':
        return nn.BatchNorm2d(dim)
    if kind == 'channel':
        return ChannelLayerNorm(dim)
    raise ConfigError(f"norm={kind!r} of ViTAdapter is unknown: use 'batch' (original) or 'channel' (6B)")


def pyramid_grids(grid: Grid) -> list[Grid]:
    """Cells of the maps at 1/8, 1/16 and 1/32 for the ViT's grid at 1/16."""
    height, width = grid
    return [(2 * height, 2 * width), grid, (height // 2, width // 2)]


def cell_centres(grids: list[Grid], device: torch.device) -> Tensor:
    """Centres (x, y) of all cells of some maps, from 0 to 1, as reference points ``[1, cells, 1, 2]`` in fp32."""
    centres = []
    for height, width in grids:
        # fp32 whatever the precision: in bf16 neighbouring cells of a map of 128 would share a centre.
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        # 'xy' gives grids [h, w], so cells run row by row, as maps do when flattened; [h·w, 2] each.
        centres.append(torch.stack(torch.meshgrid(x, y, indexing='xy'), dim=-1).flatten(0, 1))
    return torch.cat(centres)[None, :, None]  # one reference for all levels


def to_maps(tokens: Tensor, grids: list[Grid]) -> list[Tensor]:
    """Tokens ``[B, cells, D]`` to one map ``[B, D, h, w]`` per grid."""
    parts = tokens.split([height * width for height, width in grids], dim=1)  # [B, h·w, D] each
    return [part.transpose(1, 2).unflatten(2, grid) for part, grid in zip(parts, grids, strict=True)]


def to_tokens(maps: list[Tensor]) -> Tensor:
    """The inverse of :func:`to_maps`."""
    return torch.cat([map_.flatten(2).transpose(1, 2) for map_ in maps], dim=1)


class SpatialPrior(nn.Module):
    """Pixels to four maps by convolutions: what a ViT's patches lose, details and neighbourhood.

    Args:
        dim: Width D of the result.
        inplane: Channels of the stem; later stages have 2 and 4 times as many.
        norm: See :func:`build_map_norm`.
        num_maps: 4 from 1/4, or 3 from 1/8: then the stem only feeds the coarser stages.
    """

    def __init__(self, dim: int, inplane: int, norm: MapNorm, num_maps: int = 4):
        super().__init__()

        def stage(in_dim: int, out_dim: int, stride: int = 2) -> list[nn.Module]:
            # No bias: the norm after it has one.
            convolution = nn.Conv2d(in_dim, out_dim, 3, stride=stride, padding=1, bias=False)
            return [convolution, build_map_norm(norm, out_dim), nn.ReLU(inplace=True)]

        # Numbered as published: convolutions 0, 3, 6 and norms 1, 4, 7.
        self.stem = nn.Sequential(
            *stage(3, inplane),
            *stage(inplane, inplane, stride=1),
            *stage(inplane, inplane, stride=1),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        )
        self.conv2 = nn.Sequential(*stage(inplane, 2 * inplane))
        self.conv3 = nn.Sequential(*stage(2 * inplane, 4 * inplane))
        self.conv4 = nn.Sequential(*stage(4 * inplane, 4 * inplane))
        # Numbered by stage, so that three maps have fc2 to fc4: a layer without use would get no gradient.
        widths = (inplane, 2 * inplane, 4 * inplane, 4 * inplane)
        for number in range(5 - num_maps, 5):
            self.add_module(f'fc{number}', nn.Conv2d(widths[number - 1], dim, 1))
        self.num_maps = num_maps

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        """Maps ``[B, D, ...]`` at 1/4 (of four), 1/8, 1/16 and 1/32 of ``[B, 3, H, W]``."""
        c1 = self.stem(pixel_values)  # [B, inplane, H/4, W/4]: one stride of 2, one of the pooling
        c2 = self.conv2(c1)  # [B, 2·inplane, H/8, W/8]
        c3 = self.conv3(c2)  # [B, 4·inplane, H/16, W/16]
        c4 = self.conv4(c3)  # [B, 4·inplane, H/32, W/32]
        finest = [self.fc1(c1)] if self.num_maps == 4 else []
        return [*finest, self.fc2(c2), self.fc3(c3), self.fc4(c4)]


@dataclass(frozen=True)
class InteractionSettings:
    """What the interactions of an adapter are made of.

    Attributes:
        dim: Width D.
        heads: Heads of deformable attention.
        points: Points per head and level.
        ratio: Width of its values as a share of D.
        ffn_ratio: Hidden width of the feed-forward part as a share of D; ``None`` leaves the part out.
        drop_path: Constant rate of the feed-forward parts: no ramp over depth.
        eps: Floor of the layer norms.
        gamma: Initial scale of what is injected; 0 starts with the plain ViT.
        recompute: Recompute activations in the backward pass.
    """

    dim: int
    heads: int
    points: int
    ratio: float
    ffn_ratio: float | None
    drop_path: float
    eps: float
    gamma: float
    recompute: bool

    def norm(self) -> nn.LayerNorm:
        """A layer norm over D."""
        return nn.LayerNorm(self.dim, eps=self.eps)

    def attention(self, levels: int) -> MultiScaleDeformableAttention:
        """Deformable attention to that many maps."""
        return MultiScaleDeformableAttention(self.dim, self.heads, levels, self.points, ratio=self.ratio)

    def call(self, module: Callable, *inputs: Any) -> Tensor:
        """Call a module, keeping its activations or not."""
        if self.recompute and torch.is_grad_enabled():
            # Not the reentrant form: with a frozen ViT the first injector's tokens need no gradient, its weights do.
            return checkpoint(module, *inputs, use_reentrant=False)
        return module(*inputs)


class DepthwiseConv(nn.Module):
    """One 3×3 kernel per channel, the same for the maps of all scales.

    Args:
        dim: Channels.
    """

    def __init__(self, dim: int):
        super().__init__()
        # The doubled name dwconv.dwconv is the published one.
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, tokens: Tensor, grids: list[Grid]) -> Tensor:
        """Mix neighbours in ``[B, M, dim]``, scale by scale."""
        return to_tokens([self.dwconv(map_) for map_ in to_maps(tokens, grids)])


class ConvFeedForward(nn.Module):
    """Linear, depthwise convolution on the maps, GELU, linear.

    Args:
        dim: Width D.
        hidden_dim: Width in between.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.dwconv = DepthwiseConv(hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, tokens: Tensor, grids: list[Grid]) -> Tensor:
        """Map ``[B, M, D]`` to ``[B, M, D]``."""
        # Hidden states are [B, M, ffn_ratio·D]; the convolution is between linear and GELU, as published.
        return self.fc2(F.gelu(self.dwconv(self.fc1(tokens), grids)))


class Injector(nn.Module):
    """Tokens of the ViT look at the maps; a learned scale per channel starts at almost nothing.

    Args:
        settings: Sizes.
    """

    def __init__(self, settings: InteractionSettings):
        super().__init__()
        self.query_norm, self.feat_norm = settings.norm(), settings.norm()
        self.attn = settings.attention(_LEVELS)
        self.gamma = nn.Parameter(torch.full((settings.dim,), float(settings.gamma)))

    def forward(self, x: Tensor, c: Tensor, grid: Grid) -> Tensor:
        """Add what the patches ``[B, N, D]`` find in the maps ``[B, M, D]``; the patches keep their dtype."""
        # A half ViT may run under an adapter in fp32; the residual stream keeps the ViT's dtype.
        query, value = self.query_norm(x.to(c.dtype)), self.feat_norm(c)  # [B, N, D] and [B, M, D]
        found = self.attn(query, cell_centres([grid], x.device), value, pyramid_grids(grid))  # [B, N, D]
        return x + (self.gamma * found).to(x.dtype)


class Extractor(nn.Module):
    """The maps look at the tokens of the ViT, then at their neighbours. There is no learned scale here.

    Args:
        settings: Sizes.
    """

    def __init__(self, settings: InteractionSettings):
        super().__init__()
        self.query_norm, self.feat_norm = settings.norm(), settings.norm()
        # One level: the ViT's own grid at 1/16.
        self.attn = settings.attention(1)
        self.has_ffn = settings.ffn_ratio is not None
        if settings.ffn_ratio is not None:
            self.ffn_norm = settings.norm()
            self.ffn = ConvFeedForward(settings.dim, int(settings.dim * settings.ffn_ratio))
            self.drop_path = DropPath(settings.drop_path)

    def forward(self, c: Tensor, x: Tensor, grid: Grid) -> Tensor:
        """Add what the maps ``[B, M, D]`` find in the patches ``[B, N, D]``."""
        grids = pyramid_grids(grid)
        # Queries are the cells of three maps, values those of one: the ViT's grid.
        query, value = self.query_norm(c), self.feat_norm(x.to(c.dtype))  # [B, M, D] and [B, N, D]
        c = c + self.attn(query, cell_centres(grids, c.device), value, [grid])
        if self.has_ffn:
            c = c + self.drop_path(self.ffn(self.ffn_norm(c), grids))
        return c


class Interaction(nn.Module):
    """Inject into the tokens, run a group of the ViT's blocks, extract into the maps.

    Args:
        settings: Sizes.
        extra_extractors: Further extractors that run in turn after the first (2 in the last interaction, as published).
    """

    def __init__(self, settings: InteractionSettings, extra_extractors: int = 0):
        super().__init__()
        self.settings = settings
        self.injector = Injector(settings)  # 8,020,900 values at the 6B's width
        self.extractor = Extractor(settings)  # 11,235,500
        self.extra_extractors = nn.ModuleList(Extractor(settings) for _ in range(extra_extractors))

    def inject(self, x: Tensor, c: Tensor, grid: Grid) -> Tensor:
        """Patches ``[B, N, D]`` before the blocks."""
        return self.settings.call(self.injector, x, c, grid)

    def extract(self, c: Tensor, x: Tensor, grid: Grid) -> Tensor:
        """Maps ``[B, M, D]`` after the blocks."""
        for extractor in (self.extractor, *self.extra_extractors):
            c = self.settings.call(extractor, c, x, grid)
        return c
