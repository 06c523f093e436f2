"""Projectors made of a norm, linear layers and GELU: the published ``mlp1`` and LLaVA's ``mlp{N}x_gelu``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from internvl_mm.registry import MODELS
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import ConfigError, DataError

from .base import BaseConnector
from .pixel_shuffle import VERSIONS, ShuffleVersion, cell_side, pixel_shuffle


@MODELS.register_module()
class PixelShuffleMlp(nn.Sequential, BaseConnector):
    """Pixel shuffle, layer norm and a two-layer MLP; parameters are named as in the published ``mlp1``.

    Args:
        in_dim: Width C of the vision tower.
        out_dim: Width H of the language model.
        grid: Patches on the side of a tile at the training image size.
        downsample_ratio: One over the patches on the side of a cell.
        version: Order of the cells, see :func:`pixel_shuffle`.

    Raises:
        ConfigError: The grid cannot be divided into cells, or an unknown version.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        grid: int,
        downsample_ratio: float = 0.5,
        version: ShuffleVersion = 'v2',
    ):
        check_counts(in_dim=in_dim, out_dim=out_dim, grid=grid)
        if version not in VERSIONS:
            raise ConfigError(
                f'ps_version={version!r} is unknown: use one of {", ".join(map(repr, VERSIONS))}'
            )
        side = cell_side(downsample_ratio)
        if grid % side:
            raise ConfigError(
                f'{grid}x{grid} patches cannot be divided into cells of {side}x{side} (downsample_ratio='
                f'{downsample_ratio}): choose an image size whose patches can'
            )
        # At k = 2: 4·3200 = 12800 for InternViT-6B, 4·1024 = 4096 for the 300M.
        width = in_dim * side * side
        # The norm has PyTorch's own floor 1e-5, unlike the norms of the vision tower.
        super().__init__(
            nn.LayerNorm(width), nn.Linear(width, out_dim), nn.GELU(), nn.Linear(out_dim, out_dim)
        )
        self.version, self.side, self.out_dim = version, side, out_dim
        # 448 pixels, patch 14, k = 2: (32 / 2)² = 256.
        self.tokens_per_tile = (grid // side) ** 2

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, 1+N, C]`` to ``[B, N/k², H]``; N is a square number."""
        # The class token has no place in a grid.
        patches = tokens[:, 1:]
        # From the tokens, not the config, so that tiles of another size pass too.
        grid = round(patches.shape[1] ** 0.5)
        if grid * grid != patches.shape[1] or grid % self.side:
            raise DataError(
                f'{patches.shape[1]} patches are no square grid of {self.side}x{self.side} cells: resize the tiles to '
                'the image size of the config'
            )
        # [B, N, C] to [B, N/k², k²·C].
        hidden = pixel_shuffle(patches.unflatten(1, (grid, grid)), self.side, self.version)
        for layer in self:
            hidden = layer(hidden)
        return hidden


def llava_mlp(in_dim: int, out_dim: int, depth: int) -> list[nn.Module]:
    """Layers of LLaVA's ``mlp{depth}x_gelu``; depth 1 is its ``linear``."""
    layers: list[nn.Module] = [nn.Linear(in_dim, out_dim)]
    for _ in range(depth - 1):
        layers += [nn.GELU(), nn.Linear(out_dim, out_dim)]
    return layers


@MODELS.register_module()
class LlavaMlp(nn.Sequential, BaseConnector):
    """An MLP on every patch token, as in LLaVA: InternVL-Chat-13B and 19B.

    Args:
        in_dim: Width C of the vision tower.
        out_dim: Width H of the language model.
        grid: Patches on the side of a tile at the training image size.
        depth: Number of linear layers (LLaVA's ``mlp2x_gelu`` has 2).
    """

    def __init__(self, in_dim: int, out_dim: int, *, grid: int, depth: int = 2):
        check_counts(in_dim=in_dim, out_dim=out_dim, grid=grid, depth=depth)
        super().__init__(*llava_mlp(in_dim, out_dim, depth))
        # 576 at 336 pixels and patch 14.
        self.tokens_per_tile, self.out_dim = grid * grid, out_dim

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, 1+N, C]`` to ``[B, N, H]``."""
        hidden = tokens[:, 1:]  # [B, N, C]
        for layer in self:
            hidden = layer(hidden)
        return hidden


@MODELS.register_module()
class QueryGlue(BaseConnector):
    """Queries of a QLLaMA and patches side by side, each through its own MLP: the frozen variant of the CVPR paper.

    Args:
        in_dim: Width C of the vision tower.
        out_dim: Width H of the language model.
        grid: Patches on the side of a tile at the training image size.
        query_former: Part that maps ``[B, 1+N, C]`` to ``[B, Q, D]``, with attributes ``num_queries`` and ``width``;
            such as a :class:`~internvl_mm.models.connectors.QLlamaQueries`; a config needs no ``in_dim``.
        depth: Number of linear layers of both MLPs.

    Source: Chen et al. 2023 (arXiv 2312.14238), section 4.4; 96 queries and 576 patches make 672 tokens.
    """

    fills = {'query_former': ('in_dim',)}  # what a config may leave out
    # The QLLaMA was trained on the output of the whole tower, whichever state the patches are taken from.
    reads_last = True

    def __init__(
        self, in_dim: int, out_dim: int, *, grid: int, query_former: dict | nn.Module, depth: int = 2
    ):
        super().__init__()
        check_counts(in_dim=in_dim, out_dim=out_dim, grid=grid, depth=depth)
        former = (
            MODELS.build(query_former, default_args=dict(in_dim=in_dim))
            if isinstance(query_former, dict)
            else query_former
        )
        self.query_former = former
        self.query_mlp = nn.Sequential(*llava_mlp(former.width, out_dim, depth))
        self.patch_mlp = nn.Sequential(*llava_mlp(in_dim, out_dim, depth))
        self.tokens_per_tile, self.out_dim = former.num_queries + grid * grid, out_dim

    def init_weights(self) -> None:
        """See :class:`BaseConnector`; of the part with the queries."""
        if isinstance(self.query_former, BaseConnector):
            self.query_former.init_weights()

    def forward(self, tokens: Tensor, last: Tensor | None = None) -> Tensor:
        """Map ``[B, 1+N, C]`` to ``[B, Q+N, H]``, queries first; these look at ``last`` when it is another state."""
        queries = self.query_mlp(self.query_former(tokens if last is None else last))  # [B, Q, H]
        return torch.cat([queries, self.patch_mlp(tokens[:, 1:])], dim=1)
