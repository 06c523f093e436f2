"""Published segmentation backbones: constructor arguments and weights under their original names, as our parts.

Source: InternVL ``segmentation/mmseg_custom/models/backbones/intern_vit_6b.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from internvl_mm.models.backbones import InternViT
from internvl_mm.models.convert import to_hf
from internvl_mm.models.convert.dense import NECK_NAMES
from internvl_mm.models.convert.load import fill_module
from internvl_mm.models.convert.probes import check_same, rename
from internvl_mm.models.necks import BackboneMaps, MultiScaleNeck

from .published import VIT_DEFAULTS, complete, vit_settings

SEGMENTATION_DEFAULTS = dict(VIT_DEFAULTS, out_indices=(7, 11, 15, 23), with_fpn=False, with_final_norm=False)
_SOURCE = 'published backbone'


def build_published_segmentation(
    arguments: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> nn.Sequential:
    """Build a published segmentation backbone, pixels to maps, in evaluation mode.

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
    taps = tuple(settings['out_indices'])
    backbone = InternViT(**vit_settings(settings), out_indices=taps, frozen='all')
    neck: nn.Module
    if settings['with_fpn']:
        neck = MultiScaleNeck(width, norm='layer' if settings['with_final_norm'] else None, stride=patch)
    else:
        neck = BackboneMaps(width, strides=(patch,) * len(taps))
    found = to_hf(weights)
    fill_module(backbone, replace(found, others=()), _SOURCE)
    state = {rename(name, NECK_NAMES) or name: weights[name] for name in found.others}
    check_same(state, neck.state_dict(), f'neck of the {_SOURCE}')
    neck.load_state_dict(state)
    return nn.Sequential(backbone, neck).eval()
