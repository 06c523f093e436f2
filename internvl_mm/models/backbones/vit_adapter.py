"""ViT-Adapter: a plain ViT with a convolutional side path that gives maps at 1/4, 1/8, 1/16 and 1/32.

Source: Chen et al. 2022 (arXiv 2205.08534); the 6B form: InternVL-MMDetSeg ``intern_vit_6b_adapter.py``.
"""

from __future__ import annotations

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

_STRIDES = (4.0, 8.0, 16.0, 32.0)
_PATCH = 16  # the side path has a map at 1/16, so the ViT must have one, too


@MODELS.register_module()
class ViTAdapter(BaseBackbone):
    """A ViT and its adapter as one backbone with four maps; defaults are those of InternViT-6B's.

    Images may have any size that is a multiple of 32: the ViT resamples its positions. The four ``maps`` replace those
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
        interactions: First and last block of each group, in order, all blocks.
        conv_inplane: Channels of the convolutional stem.
        deform_num_heads: Heads of deformable attention.
        deform_num_points: Points per head and level.
        deform_ratio: Width of its values as a share of the ViT's.
        ffn_ratio: Hidden width of the extractors' feed-forward part as a share of the ViT's; ``None`` for none.
        extra_extractors: Further extractors at the end of the last group.
        vit_features: What of the ViT is added to the four maps: the ``'final'`` tokens to all, the output of each of
            four ``'groups'`` to one, or nothing.
        norm: ``'batch'`` or ``'channel'``, in the stem and at the end.
        final_norm: Whether the four maps are normalised at the end.
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
        self.width, self.num_layers, self.strides = self.vit.width, self.vit.num_layers, _STRIDES
        self.groups = _checked_groups(interactions, self.num_layers)
        self.vit_features, self.pretrained = _checked_features(vit_features, len(self.groups)), pretrained
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
        self.spm = SpatialPrior(self.width, conv_inplane, norm)
        self.interactions = nn.ModuleList(
            Interaction(settings, extra_extractors if index == last else 0) for index in range(last + 1)
        )
        self.up = nn.ConvTranspose2d(self.width, self.width, kernel_size=2, stride=2)
        for number in range(1, 5):
            self.add_module(
                f'norm{number}', build_map_norm(norm, self.width) if final_norm else nn.Identity()
            )
        self._draw_adapter()
        # None must not thaw a ViT that was given frozen.
        if frozen is not None:
            self.freeze(frozen)

    def _draw_adapter(self) -> None:
        nn.init.normal_(self.level_embed)
        # All but the ViT, which has weights of its own, and the norms, which start at 1 and 0.
        for module in (self.spm, self.interactions, self.up):
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
        tokens, grid = self.vit.embed(pixel_values)
        # The map at 1/4 takes no part in the interactions, where it would quadruple the number of tokens.
        prior, *coarser = self.spm(pixel_values.to(self.spm.fc1.weight.dtype))
        levels = self.level_embed[:, :, None, None]
        # [B, M, D]: 4N cells at 1/8, N at 1/16 and N/4 at 1/32, told apart by their level's embedding.
        c = to_tokens([map_ + level for map_, level in zip(coarser, levels, strict=True)])
        # A class token has no place on the grid: it joins the blocks only.
        prefix, x = tokens.split([int(self.vit.use_class_token), grid[0] * grid[1]], dim=1)
        outputs = []
        for blocks, interaction in zip(self.groups, self.interactions, strict=True):
            x = interaction.inject(x, c, grid)
            tokens = self.vit.run_blocks(torch.cat([prefix, x], dim=1), grid, blocks)
            prefix, x = tokens.split([prefix.shape[1], x.shape[1]], dim=1)
            c = interaction.extract(c, x, grid)
            outputs.append(x)
        return VisionFeatures(
            tokens=tokens,
            grid=grid,
            maps=self._maps(prior, c, outputs, grid),
            strides=self.strides,
            has_class_token=self.vit.use_class_token,
        )

    def _maps(self, prior: Tensor, c: Tensor, outputs: list[Tensor], grid: Grid) -> tuple[Tensor, ...]:
        """The four maps in fp32, from the finest of the side path, the others as tokens, and the ViT's by group."""
        # [B, D, ...] at 1/8, 1/16 and 1/32.
        c2, c3, c4 = to_maps(c, pyramid_grids(grid))
        # The finest map never saw the ViT; it gets the next one at twice the cells.
        maps = [self.up(c2) + prior, c2, c3, c4]
        if self.vit_features is not None:
            chosen = outputs if self.vit_features == 'groups' else outputs[-1:] * len(maps)
            for index, tokens in enumerate(chosen):
                (added,) = to_maps(tokens.to(c.dtype), [grid])
                size = maps[index].shape[2:]
                # The map at 1/16 has the ViT's own size.
                maps[index] = maps[index] + F.interpolate(added, size, mode='bilinear', align_corners=False)
        norms = (self.norm1, self.norm2, self.norm3, self.norm4)
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
    # Published code would leave out blocks that no group names, without a word.
    if [block for group in groups for block in group] != list(range(num_layers)) or not all(groups):
        raise ConfigError(
            f'interactions={interactions} of ViTAdapter: groups of (first, last) block must run through blocks 0 to '
            f'{num_layers - 1} in order, each block once'
        )
    return groups


def _checked_features(
    vit_features: Literal['final', 'groups'] | None, groups: int
) -> Literal['final', 'groups'] | None:
    if vit_features not in ('final', 'groups', None):
        raise ConfigError(f"vit_features={vit_features!r} is unknown: use 'final', 'groups' or None")
    if vit_features == 'groups' and groups != len(_STRIDES):
        raise ConfigError(
            f"vit_features='groups' adds one group to each of 4 maps, but there are {groups} interactions: use 'final'"
        )
    return vit_features
