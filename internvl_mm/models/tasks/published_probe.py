"""Published classification probes: constructor arguments and weights under their original names, as our task.

Source: InternVL ``classification/models/intern_vit_6b.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from internvl_mm.models.backbones import InternViT
from internvl_mm.models.convert import to_hf
from internvl_mm.models.convert.plain import complete_layer_scale
from internvl_mm.models.convert.probes import HEAD_NAMES, POOL_NAMES, check_same, rename
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import AttentionPooling, ClipProjector, ClsPatchConcat, PoolingNeck
from internvl_mm.models.published import VIT_DEFAULTS, choice, complete, vit_settings
from internvl_mm.utils.errors import ConfigError

from .classify import ImageClassifier

# Published defaults of the arguments that decide what is computed.
DEFAULTS = dict(
    VIT_DEFAULTS,
    num_classes=1000,
    cls_target='cls_patch_concat',  # or 'attention_pooling', 'clip_projector'
    attn_pool_num_heads=16,
    clip_embed_dim=768,
    head_norm_type='bn',  # or 'ln'
)
PREFIXES = {
    **{theirs: f'neck.{ours}' for theirs, ours in POOL_NAMES.items()},
    **{theirs: f'head.{ours}' for theirs, ours in HEAD_NAMES.items()},
}


def build_published_probe(arguments: Mapping[str, Any], weights: Mapping[str, Tensor]) -> ImageClassifier:
    """Build a published probe, in evaluation mode.

    Args:
        arguments: Constructor arguments under their published names; those left out have the published defaults.
        weights: The whole classifier in the original ``.pth`` layout.

    Raises:
        ConfigError: An argument is unknown, or asks for what no published checkpoint has.
        CheckpointError: The weights are not those of this probe; every tensor is accounted for.
    """
    probe = complete(arguments, DEFAULTS, owner='the published classifier')
    task = ImageClassifier(
        backbone=InternViT(**vit_settings(probe), frozen='all'),
        neck=_neck(probe),
        head=dict(
            type=LinearClsHead,
            num_classes=probe['num_classes'],
            norm=choice(probe, 'head_norm_type', dict(bn='batch', ln='layer')),
        ),
    )
    found = to_hf(weights)
    if not probe['init_values']:
        # Published blocks without layer scale are ours with scales of 1.
        found = complete_layer_scale(found)
    state = {f'backbone.{name}': tensor for name, tensor in found.tensors.items()}
    for name in found.others:
        # The original 224px file carries the projector for every kind of probe.
        if not name.startswith('clip_projector.') or probe['cls_target'] == 'clip_projector':
            state[rename(name, PREFIXES) or name] = weights[name]
    check_same(state, task.state_dict(), 'published probe')
    task.load_state_dict(state)
    return task.eval()


def _neck(probe: Mapping[str, Any]) -> PoolingNeck:
    width, target = probe['embed_dim'], probe['cls_target']
    if target == 'cls_patch_concat':
        return ClsPatchConcat(width)
    if target == 'attention_pooling':
        return AttentionPooling(
            width, num_heads=probe['num_heads']
        )  # the backbone's, 25; not the projector's 16
    if target == 'clip_projector':
        return ClipProjector(width, num_heads=probe['attn_pool_num_heads'], out_dim=probe['clip_embed_dim'])
    raise ConfigError(
        f"cls_target={target!r} is unknown: use 'cls_patch_concat', 'attention_pooling' or 'clip_projector'"
    )
