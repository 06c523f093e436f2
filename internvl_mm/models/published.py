"""Constructor arguments of the published ``.pth`` classes, in our words: shared by every published model we rebuild."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from internvl_mm.utils.errors import ConfigError, did_you_mean

# Published defaults of the arguments that decide what the ViT computes.
VIT_DEFAULTS: dict[str, Any] = dict(
    img_size=224,
    patch_size=14,
    in_chans=3,
    embed_dim=3200,
    num_heads=25,
    mlp_ratio=4,
    depth=48,
    norm_type='rms',  # the 300M: 'ln'
    qk_normalization=True,  # the 300M: False
    qkv_bias=False,  # the 300M: True
    init_values=0.1,
    drop_path_rate=0.0,
)
# How the published code ran, not what it computes: kernels, recomputation, freezing, where its weights came from.
WITHOUT_EFFECT = (
    'freeze_vit',
    'layerscale_force_fp32',
    'layerscale_no_force_fp32',
    'output_dtype',
    'pretrain_size',
    'pretrained',
    'unfreeze_pos_embed',
    'use_flash_attn',
    'with_cp',
)


def complete(arguments: Mapping[str, Any], defaults: Mapping[str, Any], *, owner: str) -> dict[str, Any]:
    """Fill the published defaults into arguments and leave out those without effect.

    Raises:
        ConfigError: ``owner``, the published class in words, has no such argument.
    """
    known = [*defaults, *WITHOUT_EFFECT]
    for name in arguments:
        if name not in known:
            raise ConfigError(
                f"'{name}' is no argument of {owner}.{did_you_mean(name, known)} Known are {', '.join(known)}"
            )
    return {**defaults, **{name: value for name, value in arguments.items() if name in defaults}}


def choice(arguments: Mapping[str, Any], setting: str, ours: Mapping[str, str]) -> Any:
    """Our name of a published choice; a :class:`ConfigError` when there is no such choice."""
    if arguments[setting] not in ours:
        raise ConfigError(f'{setting}={arguments[setting]!r}: published are {" and ".join(ours)}')
    return ours[arguments[setting]]


def vit_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :class:`~internvl_mm.models.backbones.InternViT` for complete published ones."""
    norm_type = choice(arguments, 'norm_type', dict(rms='rms_norm', ln='layer_norm'))
    return dict(
        hidden_size=arguments['embed_dim'],
        num_hidden_layers=arguments['depth'],
        num_attention_heads=arguments['num_heads'],
        intermediate_size=int(arguments['embed_dim'] * arguments['mlp_ratio']),
        image_size=arguments['img_size'],
        patch_size=arguments['patch_size'],
        num_channels=arguments['in_chans'],
        norm_type=norm_type,
        qk_normalization=arguments['qk_normalization'],
        qk_norm_type=norm_type,  # in this code queries and keys are normalised as the blocks are
        qkv_bias=arguments['qkv_bias'],
        # None or 0: no layer scale, which is one of 1.
        initializer_factor=arguments['init_values'] or 1.0,
        drop_path_rate=arguments['drop_path_rate'],
    )
