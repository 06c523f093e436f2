"""Maps of one stride to maps of several: the published segmentation neck, ViTDet's feature pyramid, or as they are.

Shape letters: B batch, D width of the backbone, C channels of the result, (h, w) patch grid.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from internvl_mm.models.convert.dense import NECK_NAMES
from internvl_mm.models.convert.probes import load_part
from internvl_mm.models.layers import ChannelLayerNorm, draw_convolutions
from internvl_mm.registry import MODELS
from internvl_mm.structures import VisionFeatures
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import ConfigError
from internvl_mm.utils.paths import ExistingPath

from .base import PyramidNeck

# Cells of the results per cell of the patch grid, along one side; finest first.
_SCALES = (4.0, 2.0, 1.0, 0.5)


def _double(dim: int, out_dim: int) -> nn.ConvTranspose2d:
    """Twice the cells along both sides; every output cell sees one input cell."""
    return nn.ConvTranspose2d(dim, out_dim, kernel_size=2, stride=2)


def _check_maps(neck: PyramidNeck, maps: tuple[Tensor, ...], counts: tuple[int, ...], dim: int) -> None:
    name = type(neck).__name__
    if len(maps) not in counts:
        raise ConfigError(
            f'{name} takes {" or ".join(map(str, counts))} maps, but the backbone gives {len(maps)}: '
            'set out_indices of the backbone to that many blocks'
        )
    if maps and maps[0].shape[1] != dim:
        raise ConfigError(
            f'{name} has dim={dim} but the maps of the backbone are {maps[0].shape[1]} wide: set dim to that'
        )


@MODELS.register_module()
class MultiScaleNeck(PyramidNeck):
    """Four taps of a ViT to maps of 1/4, 1/2, 1 and 2 of its stride, ``[B, D, ...]`` each.

    The published neck of UperNet and, on one tap, of detection. It trains, also on a frozen backbone, computes in the
    dtype of its weights and gives fp32. At 504 pixels and patch 14 the maps have 144, 72, 36 and 18 cells a side; an
    odd grid loses its last row and column in the coarsest map.

    Args:
        dim: Width D of the backbone.
        norm: ``'layer'`` ends each scale in a layer norm over channels; published checkpoints have ``None``.
        stride: Pixels per cell of the maps of the backbone: its patch size.
        pretrained: A published segmentation checkpoint (names ``up1.*``, ``up2.*``) to take the neck from.

    Raises:
        ConfigError: ``norm`` is something else; or, on use, the backbone gives neither 4 maps nor 1.

    Source: InternVL ``segmentation/mmseg_custom/models/backbones/intern_vit_6b.py`` (``with_fpn``).
    """

    def __init__(
        self,
        dim: int,
        *,
        norm: Literal['layer'] | None = None,
        stride: float = 14.0,
        pretrained: ExistingPath | None = None,
    ):
        super().__init__()
        check_counts(dim=dim)
        if norm not in ('layer', None):
            raise ConfigError(f"norm={norm!r} of MultiScaleNeck is unknown: use 'layer' or None")
        self.out_channels, self.pretrained = dim, pretrained
        # 3.5, 7, 14 and 28 pixels at patch 14.
        self.strides = tuple(stride / scale for scale in _SCALES)
        # Modules and their numbers are named as in published checkpoints.
        scales: list[list[nn.Module]] = [
            [_double(dim, dim), ChannelLayerNorm(dim), nn.GELU(), _double(dim, dim)],
            [_double(dim, dim)],
            [nn.Identity()],
            [nn.MaxPool2d(2)],
        ]
        for number, layers in enumerate(scales, start=1):
            if norm:
                # Last in each sequence, so that the numbers before it stay those of checkpoints without.
                layers.append(ChannelLayerNorm(dim))
            self.add_module(f'up{number}', nn.Sequential(*layers))
        draw_convolutions(self)

    def init_weights(self) -> None:
        """Load ``pretrained``, if given."""
        if self.pretrained is not None:
            load_part(self, self.pretrained, NECK_NAMES)

    def forward(self, features: VisionFeatures) -> tuple[Tensor, ...]:
        """Rescale four taps, or the only one four times; see :class:`PyramidNeck`."""
        maps = features.maps  # [B, D, h, w] each
        _check_maps(self, maps, (4, 1), self.out_channels)
        # Segmentation taps four blocks; the published detection config feeds all scales from the last.
        taps = maps if len(maps) == 4 else maps * 4
        dtype = next(self.parameters()).dtype
        ups = (self.up1, self.up2, self.up3, self.up4)
        return tuple(up(tap.to(dtype)).float() for up, tap in zip(ups, taps, strict=True))


def _scale_layers(dim: int, scale: float) -> list[nn.Module]:
    """From one map to ``scale`` times as many cells a side; widths halve with every doubling."""
    if scale == 4.0:
        return [_double(dim, dim // 2), ChannelLayerNorm(dim // 2), nn.GELU(), _double(dim // 2, dim // 4)]
    if scale == 2.0:
        return [_double(dim, dim // 2)]
    return [nn.Identity()] if scale == 1.0 else [nn.MaxPool2d(2)]


@MODELS.register_module()
class SimpleFeaturePyramid(PyramidNeck):
    """The last map of a plain ViT to a detection pyramid, ``[B, out_channels, ...]`` each, without a top-down path.

    Scales 4, 2, 1 and 1/2 are made from the last map alone, then a 1×1 and a 3×3 convolution without bias, each
    followed by a layer norm over channels. Further levels halve the coarsest.

    Args:
        dim: Width D of the backbone; a multiple of 4.
        out_channels: Channels C of the pyramid.
        stride: Pixels per cell of the map of the backbone: its patch size, 16 for strides 4 to 32.
        num_outs: Number of levels, at least 4; Mask R-CNN takes 5, the last for proposals only.

    Raises:
        ConfigError: Sizes that do not fit; or, on use, a backbone without maps.

    Source: Li et al. 2022, "Exploring Plain Vision Transformer Backbones for Object Detection" (arXiv 2203.16527).
    """

    def __init__(self, dim: int, *, out_channels: int = 256, stride: float = 16.0, num_outs: int = 5):
        super().__init__()
        check_counts(dim=dim, out_channels=out_channels)
        if dim % 4:
            raise ConfigError(
                f'dim={dim} of SimpleFeaturePyramid must be a multiple of 4: its finest map has dim / 4'
            )
        if num_outs < len(_SCALES):
            raise ConfigError(
                f'num_outs={num_outs} is not possible: the pyramid has at least {len(_SCALES)} levels'
            )
        self.dim, self.out_channels = dim, out_channels
        extra = num_outs - len(_SCALES)
        # The coarsest of the four has twice the stride of the ViT; further levels go on doubling.
        self.strides = (
            *(stride / scale for scale in _SCALES),
            *(stride * 2 ** (2 + level) for level in range(extra)),
        )
        self.levels = nn.ModuleList()
        for scale in _SCALES:
            # Doubled maps have dim / scale channels, the others all.
            width = int(dim / max(scale, 1.0))
            self.levels.append(
                nn.Sequential(
                    *_scale_layers(dim, scale),
                    nn.Conv2d(width, out_channels, 1, bias=False),
                    ChannelLayerNorm(out_channels),
                    nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                    ChannelLayerNorm(out_channels),
                )
            )

    def forward(self, features: VisionFeatures) -> tuple[Tensor, ...]:
        """Build the pyramid from the last of ``features.maps``; see :class:`PyramidNeck`."""
        _check_maps(self, features.maps[-1:], (1,), self.dim)
        # Taps come in fp32; weights may be half (ZeRO, a bf16 backbone).
        dtype = next(self.parameters()).dtype
        # [B, C, h·scale, w·scale] each
        pyramid = [level(features.maps[-1].to(dtype)).float() for level in self.levels]
        while len(pyramid) < len(self.strides):
            # Every second cell, as mmdet's FPN and Detectron2 make their extra level.
            pyramid.append(F.max_pool2d(pyramid[-1], kernel_size=1, stride=2))
        return tuple(pyramid)


@MODELS.register_module()
class BackboneMaps(PyramidNeck):
    """The maps of the backbone as they are: for ViT-Adapter, which makes its pyramid itself, and for linear heads.

    Args:
        dim: Width D of the backbone.
        strides: Strides of its maps, those of ViT-Adapter when left out.

    Raises:
        ConfigError: On use, the backbone gives maps of other strides.
    """

    def __init__(self, dim: int, *, strides: tuple[float, ...] = (4.0, 8.0, 16.0, 32.0)):
        super().__init__()
        self.out_channels, self.strides = dim, tuple(float(stride) for stride in strides)

    def forward(self, features: VisionFeatures) -> tuple[Tensor, ...]:
        """Hand the maps on; see :class:`PyramidNeck`."""
        _check_maps(self, features.maps, (len(self.strides),), self.out_channels)
        if features.strides != self.strides:
            raise ConfigError(
                f'BackboneMaps has strides={self.strides} but the backbone gives {features.strides}: '
                'set strides to that'
            )
        return features.maps
