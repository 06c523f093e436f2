"""Sizes and norms of an InternViT as each layout writes them down, or read off its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from internvl_mm.utils.errors import CheckpointError

from .files import read_json
from .names import Layout, VisionWeights

# The number of heads leaves no trace in the tensors; these are the published ones by width.
_HEADS = {3200: 25, 1024: 16}
_HF_TO_NATIVE = {
    'qkv_bias': 'attention_bias',
    'qk_normalization': 'use_qk_norm',
    'initializer_factor': 'layer_scale_init_value',
    **{
        name: name
        for name in (
            'hidden_size num_hidden_layers num_attention_heads intermediate_size image_size patch_size num_channels '
            'norm_type layer_norm_eps initializer_range'
        ).split()
    },
}
_FIXED_EPS = 1e-6  # of timm's norms and of the QK norm in transformers' native class


def vision_settings(source: Path, found: VisionWeights, num_heads: int | None = None) -> dict[str, Any]:
    """Settings of an InternViT under their published (HF) names.

    Args:
        source: Folder or file the weights came from; a ``config.json`` beside them is read when there is one.
        found: The weights.
        num_heads: Number of attention heads, where nothing says it.

    Raises:
        CheckpointError: The number of heads is unknown, or config, tensors and ``num_heads`` contradict each other.
    """
    sizes = _sizes(found)
    file = (source if source.is_dir() else source.parent) / 'config.json'
    stored = read_json(file) if file.is_file() else {}
    # A whole vision-language model describes its ViT in a part of its own; timm describes one in model_args.
    stored = stored.get('vision_config') or stored
    if not isinstance(stored, dict):
        raise CheckpointError(f'{file}: vision_config={stored!r} is no description of an InternViT')
    if found.layout == 'native':
        stored = {ours: stored[native] for ours, native in _HF_TO_NATIVE.items() if native in stored}
        # Native configs hold [height, width].
        for name in ('image_size', 'patch_size'):
            stored[name] = (
                stored[name][0] if isinstance(stored.get(name), list) else stored.get(name, sizes[name])
            )
    elif 'architecture' in stored:
        # timm's: sizes and norms are read off the tensors, only the heads are not in them.
        stored = {'num_attention_heads': stored.get('model_args', {}).get('num_heads')}
    side, patch_size = stored.get('image_size'), sizes['patch_size']
    if isinstance(side, int) and side // patch_size == sizes['image_size'] // patch_size:
        stored = {**stored, 'image_size': sizes['image_size']}  # a remainder of a patch has no position
    if wrong := {name: value for name, value in sizes.items() if stored.get(name, value) != value}:
        listed = ', '.join(
            f'{name} is {stored[name]!r} there, {value!r} in the tensors' for name, value in wrong.items()
        )
        raise CheckpointError(f'{file} does not describe the weights: {listed}')
    stated = stored.get('num_attention_heads')
    # No tensor tells, and so the comparison of outputs would not.
    if None not in (num_heads, stated) and num_heads != stated:
        raise CheckpointError(
            f'--num-heads {num_heads}: {file} says num_attention_heads={stated!r}. Leave the flag out, or mend the file'
        )
    known = [number for number in (num_heads, stated, _HEADS.get(sizes['hidden_size'])) if number is not None]
    if not known:
        raise CheckpointError(
            f'{source}: the number of attention heads is not in the tensors of width {sizes["hidden_size"]} and there '
            'is no config.json beside them: give it with --num-heads'
        )
    return {**stored, **sizes, 'num_attention_heads': known[0]}


def _sizes(found: VisionWeights) -> dict[str, Any]:
    """Every setting the shapes and names of the tensors tell."""
    tensors = found.tensors
    width, channels, patch_size, _ = _shape(found, 'embeddings.patch_embedding.weight', 4)
    positions = _shape(found, 'embeddings.position_embedding', 3)[1]
    hidden = _shape(found, 'encoder.layers.0.mlp.fc1.weight', 2)[0]
    return dict(
        hidden_size=width,
        num_channels=channels,
        patch_size=patch_size,
        # One position is the class token's, the others form a square.
        image_size=patch_size * round((positions - 1) ** 0.5),
        intermediate_size=hidden,
        num_hidden_layers=found.depth,
        qkv_bias='encoder.layers.0.attn.qkv.bias' in tensors,
        qk_normalization='encoder.layers.0.attn.q_norm.weight' in tensors,
        norm_type='layer_norm' if 'encoder.layers.0.norm1.bias' in tensors else 'rms_norm',
    )


def _shape(found: VisionWeights, name: str, dimensions: int) -> tuple[int, ...]:
    if name not in found.tensors:
        raise CheckpointError(f'the checkpoint has no {name!r}: it is incomplete')
    shape = tuple(found.tensors[name].shape)
    if len(shape) != dimensions:
        raise CheckpointError(
            f'{name!r} has the shape {shape}, of an InternViT it has {dimensions} dimensions'
        )
    return shape


def check_expressible(settings: dict[str, Any], layout: Layout) -> None:
    """Refuse a layout that cannot hold a model of these settings.

    Raises:
        CheckpointError: It cannot.
    """
    if layout == 'native':
        native_settings(settings)
    elif layout == 'timm':
        timm_settings(settings)


def native_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Arguments of transformers' ``InternVLVisionConfig``.

    Raises:
        CheckpointError: The QK norm has a floor the native class cannot express.
    """
    if settings['qk_normalization']:
        _check_eps(settings, 'native')
    return {native: settings[ours] for ours, native in _HF_TO_NATIVE.items() if ours in settings}


def hf_settings(native: dict[str, Any]) -> dict[str, Any]:
    """Settings under their published names, of transformers' ``InternVLVisionConfig``."""
    settings = {ours: native[theirs] for ours, theirs in _HF_TO_NATIVE.items() if theirs in native}
    for name in ('image_size', 'patch_size'):
        if isinstance(settings.get(name), (list, tuple)):
            settings[name] = settings[name][0]
    return settings


def timm_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``timm.create_model('vit_intern300m_patch14_448', ...)``.

    Raises:
        CheckpointError: The model has norms timm's does not have.
    """
    if settings['norm_type'] != 'layer_norm' or settings['qk_normalization']:
        raise CheckpointError(
            "timm's InternViT has layer norms and no QK norm over all heads together, so a 6B model cannot be written "
            "as 'timm': use 'hf', 'pth' or 'native'"
        )
    _check_eps(settings, 'timm')
    return dict(
        img_size=settings['image_size'],
        patch_size=settings['patch_size'],
        in_chans=settings['num_channels'],
        embed_dim=settings['hidden_size'],
        depth=settings['num_hidden_layers'],
        num_heads=settings['num_attention_heads'],
        mlp_ratio=settings['intermediate_size'] / settings['hidden_size'],
        qkv_bias=settings['qkv_bias'],
    )


def _check_eps(settings: dict[str, Any], layout: Layout) -> None:
    eps = settings.get('layer_norm_eps', _FIXED_EPS)
    if eps != _FIXED_EPS:
        raise CheckpointError(
            f'layer_norm_eps={eps} cannot be expressed in the {layout} layout, which has {_FIXED_EPS}'
        )
