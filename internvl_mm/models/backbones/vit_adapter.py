"""ViT-Adapter: a plain ViT with a convolutional side path that gives maps at 1/4, 1/8, 1/16 and 1/32.

Source: Chen et al. 2022 (arXiv 2205.08534); the 6B form: InternVL-MMDetSeg ``intern_vit_6b_adapter.py``.
"""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from internvl_mm.models.convert.adapter import has_adapter, load_adapter
from internvl_mm.models.convert.files import open_weights
from internvl_mm.models.layers import draw_convolutions
from internvl_mm.ops import MultiScaleDeformableAttention
from internvl_mm.registry import MODELS
from internvl_mm.structures import VisionFeatures
from internvl_mm.utils.checks import check_counts, check_shares
from internvl_mm.utils.errors import ConfigError, DataError
from internvl_mm.utils.paths import ExistingPath

from .base import BaseBackbone, BlockBackbone, Frozen
from .vit_adapter_parts import (
    Grid,
    Interaction,
    InteractionSettings,
    MapNorm,
    SpatialPrior,
    build_map_norm,
    pyramid_grids,
    to_maps,
    to_tokens,
)

# Pixels per cell of the maps, finest first.
_STRIDES = (4.0, 8.0, 16.0, 32.0)
_PATCH = 16  # the side path has a map at 1/16, so the ViT must have one, too


@MODELS.register_module()
class ViTAdapter(BaseBackbone):
    """A ViT and its adapter as one backbone with four or three maps; defaults are those of InternViT-6B's.

    Images may have any size that is a multiple of 32: the ViT resamples its positions. The ``maps`` replace those
    of the ViT, ``tokens`` are its last, un-normalised ones.

    The published forms differ as follows; ``configs/_base_/models/vit_adapter_*.py`` has them:

    ==================== ======= ======================= ======================== ==============================
    argument             6B      original, detection     original, segmentation   light
    ==================== ======= ======================= ======================== ==============================
    norm                 channel batch                   batch                    batch
    eps                  1e-5    1e-6                    1e-6                     1e-6
    vit_features         final   final                   groups                   None
    extra_extractors     2       2                       2                        0
    ffn_ratio            0.25    0.25                    0.25                     None
    interactions         4       4                       4                        1, of all blocks
    the ViT's attention  global  window 14, some global  global                   as segmentation or detection
    ==================== ======= ======================= ======================== ==============================

    Args:
        backbone: The ViT, of patch 16. It keeps its own settings: frozen or not, windows, class token (which then only
            takes part in the blocks), recomputation.
        interactions: First and last block of each group, in the order they run. Blocks that no group names are left out
            and those of two groups run twice, as in the published code; a warning says so.
        conv_inplane: Channels of the convolutional stem.
        deform_num_heads: Heads of deformable attention.
        deform_num_points: Points per head and level.
        deform_ratio: Width of its values as a share of the ViT's.
        ffn_ratio: Hidden width of the extractors' feed-forward part as a share of the ViT's; ``None`` for none.
        extra_extractors: Further extractors at the end of the last group.
        vit_features: What of the ViT is added to the maps: the ``'final'`` tokens to all, the output of each of
            as many ``'groups'`` to one, or nothing.
        num_maps: 4, of strides 4 to 32, or 3, of strides 8 to 32.
        norm: ``'batch'`` or ``'channel'``, in the stem and at the end.
        final_norm: Whether the maps are normalised at the end.
        eps: Floor of the layer norms in the interactions.
        gamma: Initial scale of what is injected into the ViT.
        drop_path_rate: Constant rate of the extractors; published: the rate of the ViT's last block.
        gradient_checkpointing: Recompute the interactions in the backward pass.
        frozen: See :meth:`BaseBackbone.freeze`; ``None`` leaves the ViT as its own setting says.
        pretrained: A published adapter checkpoint, ViT included, in place of the ViT's own ``pretrained``.

    Raises:
        ConfigError: Settings that do not fit each other.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module | dict,
        interactions: tuple[tuple[int, int], ...],
        conv_inplane: int = 64,
        deform_num_heads: int = 25,
        deform_num_points: int = 4,
        deform_ratio: float = 0.25,
        ffn_ratio: float | None = 0.25,
        extra_extractors: int = 2,
        vit_features: Literal['final', 'groups'] | None = 'final',
        num_maps: Literal[3, 4] = 4,
        norm: MapNorm = 'channel',
        final_norm: bool = True,
        eps: float = 1e-5,
        gamma: float = 0.0,
        drop_path_rate: float = 0.0,
        gradient_checkpointing: bool = False,
        frozen: Frozen = None,
        pretrained: ExistingPath | None = None,
    ):
        super().__init__()
        check_counts(
            conv_inplane=conv_inplane, deform_num_heads=deform_num_heads, deform_num_points=deform_num_points
        )
        check_shares(drop_path_rate=drop_path_rate)
        self.vit = _built(backbone)
        self.width, self.num_layers = self.vit.width, self.vit.num_layers
        self.strides = _checked_strides(num_maps)
        self.groups = _checked_groups(interactions, self.num_layers)
        self.vit_features = _checked_features(vit_features, len(self.groups), num_maps)
        self.pretrained = pretrained
        # The published drop path of the extractors is one rate for all, unlike the ramp over the ViT's blocks.
        settings = InteractionSettings(
            dim=self.width,
            heads=deform_num_heads,
            points=deform_num_points,
            ratio=deform_ratio,
            ffn_ratio=ffn_ratio,
            drop_path=drop_path_rate,
            eps=eps,
            gamma=gamma,
            recompute=gradient_checkpointing,
        )
        last = len(self.groups) - 1
        # For 1/8, 1/16 and 1/32; the map at 1/4 never becomes tokens.
        self.level_embed = nn.Parameter(torch.empty(3, self.width))
        # 3,301,184 values at the 6B's width
        self.spm = SpatialPrior(self.width, conv_inplane, norm, num_maps)
        self.interactions = nn.ModuleList(
            Interaction(settings, extra_extractors if index == last else 0) for index in range(last + 1)
        )
        if num_maps == 4:
            # From 1/8 to 1/4; without the map at 1/4 it would have no use and no gradient.
            self.up = nn.ConvTranspose2d(self.width, self.width, kernel_size=2, stride=2)
        # Published names count the stages: three maps have norm2 to norm4.
        self._norms = [f'norm{number}' for number in range(5 - num_maps, 5)]
        for name in self._norms:
            self.add_module(name, build_map_norm(norm, self.width) if final_norm else nn.Identity())
        self._draw_adapter()
        # None must not thaw a ViT that was given frozen.
        if frozen is not None:
            self.freeze(frozen)

    def _draw_adapter(self) -> None:
        nn.init.normal_(self.level_embed)
        # All but the ViT, which has weights of its own, and the norms, which start at 1 and 0.
        for module in (self.spm, self.interactions, *([self.up] if len(self.strides) == 4 else [])):
            draw_convolutions(module)
            for layer in module.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.trunc_normal_(layer.weight, std=0.02)
                    nn.init.zeros_(layer.bias)
        for module in self.interactions.modules():
            if isinstance(module, MultiScaleDeformableAttention):
                module.init_weights()  # last: its points must spread

    def init_weights(self) -> None:
        """Load ``pretrained``, or the weights of the ViT alone beside the adapter as it was made."""
        if self.pretrained is not None:
            load_adapter(self, self.pretrained)
        else:
            self.vit.init_weights()

    def load_weights(self, path: str | Path) -> None:
        """See :class:`BaseBackbone`; a checkpoint without adapter goes to the ViT alone."""
        if has_adapter(open_weights(path)):
            load_adapter(self, path)
        else:
            self.vit.load_weights(path)

    def forward(self, pixel_values: Tensor) -> VisionFeatures:
        """Compute features of ``[B, 3, H, W]``; both sides are multiples of 32, not necessarily equal.

        Raises:
            DataError: Images of another size.
        """
        height, width = pixel_values.shape[-2:]
        if height % 32 or width % 32:
            raise DataError(
                f'image of {height}x{width} pixels: ViT-Adapter takes multiples of 32; pad batches to them '
                '(pad_size_divisor=32), or crop in multiples of them'
            )
        tokens, grid = self.vit.embed(pixel_values)  # [B, 1+N, D] or [B, N, D]
        # The map at 1/4 takes no part in the interactions, where it would quadruple the number of tokens.
        *finest, c2, c3, c4 = self.spm(pixel_values.to(self.spm.fc2.weight.dtype))
        levels = self.level_embed[:, :, None, None]
        # [B, M, D]: 4N cells at 1/8, N at 1/16 and N/4 at 1/32, told apart by their level's embedding.
        c = to_tokens([map_ + level for map_, level in zip((c2, c3, c4), levels, strict=True)])
        # A class token has no place on the grid: it joins the blocks only.
        # [B, 1 or 0, D] and [B, N, D]
        prefix, x = tokens.split([int(self.vit.use_class_token), grid[0] * grid[1]], dim=1)
        outputs = []
        for blocks, interaction in zip(self.groups, self.interactions, strict=True):
            x = interaction.inject(x, c, grid)
            tokens = self.vit.run_blocks(torch.cat([prefix, x], dim=1), grid, blocks)
            prefix, x = tokens.split([prefix.shape[1], x.shape[1]], dim=1)
            c = interaction.extract(c, x, grid)
            outputs.append(x)  # [B, N, D]
        return VisionFeatures(
            tokens=tokens,
            grid=grid,
            maps=self._maps(finest, c, outputs, grid),
            strides=self.strides,
            has_class_token=self.vit.use_class_token,
        )

    def _maps(self, finest: list[Tensor], c: Tensor, outputs: list[Tensor], grid: Grid) -> tuple[Tensor, ...]:
        """The maps in fp32, from the finest of the side path, if any, the others as tokens, and the ViT's by group."""
        # [B, D, ...] at 1/8, 1/16 and 1/32.
        c2, c3, c4 = to_maps(c, pyramid_grids(grid))
        # The finest map never saw the ViT; it gets the next one at twice the cells.
        maps = [*(self.up(c2) + prior for prior in finest), c2, c3, c4]
        if self.vit_features is not None:
            chosen = outputs if self.vit_features == 'groups' else outputs[-1:] * len(maps)
            for index, tokens in enumerate(chosen):
                (added,) = to_maps(tokens.to(c.dtype), [grid])  # [B, D, h, w] at 1/16
                size = maps[index].shape[2:]
                # The map at 1/16 has the ViT's own size.
                maps[index] = maps[index] + F.interpolate(added, size, mode='bilinear', align_corners=False)
        norms = [getattr(self, name) for name in self._norms]
        return tuple(_normalised(norm, map_) for norm, map_ in zip(norms, maps, strict=True))

    def layer_id(self, name: str) -> int:
        """See :class:`BaseBackbone`; everything beside the ViT counts as after the blocks, as published."""
        if name.startswith('vit.'):
            return self.vit.layer_id(name.removeprefix('vit.'))
        return self.num_layers + 1

    def freeze(self, up_to: Frozen) -> None:
        """See :class:`BaseBackbone`; the frozen ViT under a trained adapter is a setting of the ViT."""
        # Its own evaluation mode hangs on its own setting; the second call then also covers the adapter.
        self.vit.freeze(up_to)
        super().freeze(up_to)

    def resize_positions(self, image_size: int) -> None:
        """See :class:`BaseBackbone`."""
        self.vit.resize_positions(image_size)


def _normalised(norm: nn.Module, map_: Tensor) -> Tensor:
    # Batch norm takes no input of higher precision than its weights.
    dtype = norm.weight.dtype if isinstance(norm, _BatchNorm) else torch.float32
    return norm(map_.to(dtype)).float()


def _built(backbone: nn.Module | dict) -> BlockBackbone:
    vit = MODELS.build(backbone) if isinstance(backbone, dict) else backbone
    if not isinstance(vit, BlockBackbone):
        raise ConfigError(
            f'ViTAdapter wraps a BlockBackbone, such as InternViT; {type(vit).__name__} cannot run its blocks in groups'
        )
    if vit.patch_size != _PATCH:
        raise ConfigError(
            f'ViTAdapter needs a ViT of patch_size={_PATCH}, not {vit.patch_size}: set it, and loading resamples the '
            'kernel of published weights'
        )
    return vit


def _checked_groups(interactions: tuple[tuple[int, int], ...], num_layers: int) -> list[range]:
    groups = [range(first, last + 1) for first, last in interactions]
    if not groups or not all(group and 0 <= group[0] and group[-1] < num_layers for group in groups):
        raise ConfigError(
            f'interactions={interactions} of ViTAdapter: give the (first, last) block of each group, out of blocks 0 '
            f'to {num_layers - 1}'
        )
    runs = Counter(block for group in groups for block in group)
    odd = [f'block {block} runs {runs[block]} times' for block in range(num_layers) if runs[block] != 1]
    if odd:
        # Published code does so without a word. A block that never runs gets no gradient, which data-parallel training
        # waits for.
        warnings.warn(
            f'interactions={interactions} of ViTAdapter: {", ".join(odd)}; groups usually run through blocks 0 to '
            f'{num_layers - 1}, each once',
            stacklevel=3,
        )
    return groups


def _checked_strides(num_maps: int) -> tuple[float, ...]:
    if num_maps not in (3, 4):
        raise ConfigError(
            f'num_maps={num_maps} of ViTAdapter is not possible: use 4 (strides 4 to 32) or 3 (8 to 32)'
        )
    return _STRIDES[-num_maps:]


def _checked_features(
    vit_features: Literal['final', 'groups'] | None, groups: int, num_maps: int
) -> Literal['final', 'groups'] | None:
    if vit_features not in ('final', 'groups', None):
        raise ConfigError(f"vit_features={vit_features!r} is unknown: use 'final', 'groups' or None")
    if vit_features == 'groups' and groups != num_maps:
        raise ConfigError(
            f"vit_features='groups' adds one group to each of {num_maps} maps, but there are {groups} interactions: "
            "use 'final'"
        )
    return vit_features
