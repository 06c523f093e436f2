"""Published segmentation backbones and adapters: original names of arguments and weights, as our parts.

Source: InternVL ``segmentation/mmseg_custom/models/backbones/intern_vit_6b.py``, InternVL-MMDetSeg's adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from internvl_mm.models.backbones import InternViT, ViTAdapter
from internvl_mm.models.convert import to_hf
from internvl_mm.models.convert.adapter import fill_adapter
from internvl_mm.models.convert.dense import NECK_NAMES
from internvl_mm.models.convert.load import fill_module
from internvl_mm.models.convert.plain import complete_layer_scale
from internvl_mm.models.convert.probes import check_same, rename
from internvl_mm.models.necks import BackboneMaps, MultiScaleNeck
from internvl_mm.utils.errors import ConfigError

from .published import VIT_DEFAULTS, complete, vit_settings

SEGMENTATION_DEFAULTS = dict(
    VIT_DEFAULTS,
    out_indices=(7, 11, 15, 23),
    with_fpn=False,
    with_final_norm=False,
    window_attn=False,  # this and the next are those of the detection class, one value or one per block
    window_size=14,
)
# Arguments of the adapter beside the ViT's. What the published class calls init_values is the scale of the injectors:
# it does not reach the ViT, whose layer scales keep their own default.
ADAPTER_DEFAULTS = dict(
    VIT_DEFAULTS,
    patch_size=16,
    conv_inplane=64,
    n_points=4,  # per head and level
    deform_num_heads=25,
    init_values=0.0,
    interaction_indexes=None,
    with_cffn=True,
    cffn_ratio=0.25,
    deform_ratio=0.5,  # of the class; the published config says 0.25
    out_indices=(0, 1, 2, 3),
    with_fpn=False,  # this and the next are passed on to the ViT, whose neck the adapter does not use
    with_final_norm=False,
    add_vit_feature=True,
    use_extra_extractor=True,
    use_final_norm=True,
)
_SOURCE = 'published backbone'


def build_published_segmentation(
    arguments: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> nn.Sequential:
    """Build a published segmentation or detection backbone, pixels to maps, in evaluation mode.

    The detection class has no class token in its weights, may attend in windows, and makes all scales of its neck from
    the last tapped block.

    Args:
        arguments: Constructor arguments under their published names; those left out have the published defaults.
        weights: The backbone in the original ``.pth`` layout, its neck included.

    Returns:
        An :class:`~internvl_mm.models.backbones.InternViT` and its neck: ``MultiScaleNeck`` where the published one
        had ``with_fpn``, else ``BackboneMaps``.

    Raises:
        ConfigError: An argument is unknown, or asks for what no published checkpoint has.
        CheckpointError: The weights are not those of this backbone; every tensor is accounted for.
    """
    settings = complete(arguments, SEGMENTATION_DEFAULTS, owner='the published segmentation backbone')
    width, patch = settings['embed_dim'], float(settings['patch_size'])
    # as published, maps come in the order of the blocks, each once, whatever the order of the argument, and indexes
    # that are no block's give none
    taps = tuple(index for index in range(settings['depth']) if index in settings['out_indices'])
    found = to_hf(weights)
    if not settings['init_values']:
        found = complete_layer_scale(found)
    has_token = 'embeddings.class_embedding' in found.tensors
    if settings['with_fpn'] and not has_token:
        taps = taps[-1:]
    # Frozen: a rebuilt model is for features; training goes through configs.
    backbone = InternViT(
        **vit_settings(settings),
        **_windows(settings),
        use_class_token=has_token,
        out_indices=taps,
        frozen='all',
    )
    neck: nn.Module
    if settings['with_fpn']:
        neck = MultiScaleNeck(width, norm='layer' if settings['with_final_norm'] else None, stride=patch)
    else:
        neck = BackboneMaps(width, strides=(patch,) * len(taps))
    fill_module(backbone, replace(found, others=()), _SOURCE)
    # Whatever is not the ViT's has to be the neck's; names of neither stay, and check_same reports them.
    state = {rename(name, NECK_NAMES) or name: weights[name] for name in found.others}
    check_same(state, neck.state_dict(), f'neck of the {_SOURCE}')
    neck.load_state_dict(state)
    return nn.Sequential(backbone, neck).eval()


def _windows(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Windows of the blocks for published ones, where a list has one value per block."""
    depth = settings['depth']
    windowed, sides = (
        list(value) if isinstance(value, (list, tuple)) else [value] * depth
        for value in (settings['window_attn'], settings['window_size'])
    )
    if not any(windowed):
        return {}
    # A side of a global block has no use, and published configs write None there.
    return dict(
        window_size=tuple(side if local else 1 for local, side in zip(windowed, sides, strict=True)),
        global_blocks=tuple(index for index, local in enumerate(windowed) if not local),
    )


def build_published_adapter(arguments: Mapping[str, Any], weights: Mapping[str, Tensor]) -> ViTAdapter:
    """Build the published adapter around InternViT, in evaluation mode.

    Args:
        arguments: Constructor arguments under their published names; those left out have the published defaults.
        weights: Adapter and ViT in the original ``.pth`` layout.

    Raises:
        ConfigError: An argument is unknown, missing, or asks for what no published checkpoint has.
        CheckpointError: The weights are not those of this adapter; every tensor is accounted for.
    """
    settings = complete(arguments, ADAPTER_DEFAULTS, owner='the published adapter')
    groups = settings['interaction_indexes']
    if not groups:
        raise ConfigError('interaction_indexes is missing: give the first and last block of each group')
    # The adapter takes the argument away from the ViT (see above).
    vit = dict(settings, init_values=VIT_DEFAULTS['init_values'])
    adapter = ViTAdapter(
        backbone=InternViT(**vit_settings(vit), use_class_token=False, frozen='all'),
        # as published, only the first and the last number of a group count, and the last may go beyond the blocks
        interactions=tuple((group[0], min(group[-1], settings['depth'] - 1)) for group in groups),
        conv_inplane=settings['conv_inplane'],
        deform_num_heads=settings['deform_num_heads'],
        deform_num_points=settings['n_points'],
        deform_ratio=settings['deform_ratio'],
        ffn_ratio=settings['cffn_ratio'] if settings['with_cffn'] else None,
        extra_extractors=2 if settings['use_extra_extractor'] else 0,
        vit_features='final' if settings['add_vit_feature'] else None,
        # as published, only the number of indexes counts, and any but four means the three coarser maps
        num_maps=4 if len(settings['out_indices']) == 4 else 3,
        final_norm=settings['use_final_norm'],
        gamma=settings['init_values'],
        drop_path_rate=settings['drop_path_rate'],
    )
    fill_adapter(adapter, weights, _SOURCE)
    return adapter.eval()
