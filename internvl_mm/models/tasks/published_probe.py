"""Published classification probes: constructor arguments and weights under their original names, as our task.

Source: InternVL ``classification/models/intern_vit_6b.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from internvl_mm.models.backbones import InternViT
from internvl_mm.models.convert import to_hf
from internvl_mm.models.convert.probes import HEAD_NAMES, POOL_NAMES, check_same, rename
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import AttentionPooling, BaseNeck, ClipProjector, ClsPatchConcat
from internvl_mm.utils.errors import ConfigError, did_you_mean

from .classify import ImageClassifier

# Published defaults of the arguments that decide what is computed.
DEFAULTS = dict(
    img_size=224,
    patch_size=14,
    in_chans=3,
    embed_dim=3200,
    num_heads=25,
    mlp_ratio=4,
    depth=48,
    num_classes=1000,
    cls_target='cls_patch_concat',
    norm_type='rms',
    qk_normalization=True,
    qkv_bias=False,
    init_values=0.1,
    drop_path_rate=0.0,
    attn_pool_num_heads=16,
    clip_embed_dim=768,
    head_norm_type='bn',
)
# How the published code ran, not what it computes: kernels, recomputation, freezing, where its weights came from.
WITHOUT_EFFECT = (
    'freeze_vit',
    'layerscale_force_fp32',
    'layerscale_no_force_fp32',
    'pretrain_size',
    'pretrained',
    'use_flash_attn',
    'with_cp',
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
    probe = _complete(arguments)
    task = ImageClassifier(
        backbone=_backbone(probe),
        neck=_neck(probe),
        head=dict(
            type=LinearClsHead,
            num_classes=probe['num_classes'],
            norm=_choice(probe, 'head_norm_type', dict(bn='batch', ln='layer')),
        ),
    )
    found = to_hf(weights)
    state = {f'backbone.{name}': tensor for name, tensor in found.tensors.items()}
    for name in found.others:
        # The original 224px file carries the projector for every kind of probe.
        if not name.startswith('clip_projector.') or probe['cls_target'] == 'clip_projector':
            state[rename(name, PREFIXES) or name] = weights[name]
    check_same(state, task.state_dict(), 'published probe')
    task.load_state_dict(state)
    return task.eval()


def _complete(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with the published defaults filled in; unknown ones are refused."""
    for name in arguments:
        if name not in DEFAULTS and name not in WITHOUT_EFFECT:
            known = [*DEFAULTS, *WITHOUT_EFFECT]
            raise ConfigError(
                f"'{name}' is no argument of the published classifier.{did_you_mean(name, known)} "
                f'Known are {", ".join(known)}'
            )
    return DEFAULTS | {name: value for name, value in arguments.items() if name in DEFAULTS}


def _choice(probe: Mapping[str, Any], setting: str, ours: Mapping[str, str]) -> Any:
    """Our name of a published choice."""
    if probe[setting] not in ours:
        raise ConfigError(f'{setting}={probe[setting]!r}: the published classifier has {" and ".join(ours)}')
    return ours[probe[setting]]


def _backbone(probe: Mapping[str, Any]) -> InternViT:
    norm_type = _choice(probe, 'norm_type', dict(rms='rms_norm', ln='layer_norm'))
    return InternViT(
        hidden_size=probe['embed_dim'],
        num_hidden_layers=probe['depth'],
        num_attention_heads=probe['num_heads'],
        intermediate_size=int(probe['embed_dim'] * probe['mlp_ratio']),
        image_size=probe['img_size'],
        patch_size=probe['patch_size'],
        num_channels=probe['in_chans'],
        norm_type=norm_type,
        qk_normalization=probe['qk_normalization'],
        qk_norm_type=norm_type,  # in this code queries and keys are normalised as the blocks are
        qkv_bias=probe['qkv_bias'],
        initializer_factor=probe['init_values'],
        drop_path_rate=probe['drop_path_rate'],
        frozen='all',
    )


def _neck(probe: Mapping[str, Any]) -> BaseNeck:
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
