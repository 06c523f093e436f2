"""Published weights into a module, strictly: everything is used and everything is filled, or an error says why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from internvl_mm.models.layers import resize_patch_kernel, resize_position_embedding
from internvl_mm.utils.errors import CheckpointError

from .dense import DENSE_PARTS
from .files import open_weights
from .names import VisionWeights, block_index, to_hf
from .plain import complete_plain_vit

_CLASS_TOKEN = 'embeddings.class_embedding'
_POSITIONS = 'embeddings.position_embedding'
_KERNEL = 'embeddings.patch_embedding.weight'
# The text tower beside the ViT in the original InternVL-C file.
INTERNVL_C_TEXT = ('transformer.', 'text_projection', 'logit_scale')
# Beside the ViT in the original 224px file: the image projector of the contrastive model, 14 tensors; in segmentation
# and detection files: the neck or the adapter.
_KNOWN_EXTRAS = ('clip_projector.', *INTERNVL_C_TEXT, *DENSE_PARTS)
# A mismatch that one setting explains: tail of the tensor, setting, value when the file has it, when it has not.
_SETTINGS = (
    ('attn.q_norm.weight', 'qk_normalization', True, False),  # the 6B has them
    ('attn.qkv.bias', 'qkv_bias', True, False),  # the 300M has it
    ('norm1.bias', 'norm_type', 'layer_norm', 'rms_norm'),  # RMS norms have no bias
    (_CLASS_TOKEN, 'use_class_token', True, False),  # files of detection and of adapters have none
)
_SHOWN = 6  # names listed in an error before '...'


def load_vision_weights(
    module: nn.Module, path: str | Path, *, file_depth: int | None = None
) -> VisionWeights:
    """Load an InternViT checkpoint of any layout into a module with HF names; sizes are adapted, nothing is guessed.

    Positions and patch kernel are resampled to the module's when they differ: in the dtype of the file for ``.pth``
    names, in fp32 for the others, as the published loaders do. The module keeps its dtype and device, except that
    one on the meta device takes the tensors as they are.

    Args:
        module: An :class:`~internvl_mm.models.backbones.InternViT` or anything with its parameter names.
        path: A folder or file, see :func:`~internvl_mm.models.convert.open_weights`; the ViT may sit in a chat model.
        file_depth: Number of blocks in the file when it has more than the module, whose number then come from the
            front (the published V1-0 probes take 45 of 48). Left out, both must have the same number.

    Returns:
        What was found, in the sizes of the file.

    Raises:
        CheckpointError: The checkpoint has another depth, width, norm, head of names …; says which, with both shapes.
    """
    found = to_hf(complete_plain_vit(open_weights(path), path))
    fill_module(module, found, path, file_depth=file_depth)
    return found


def fill_module(
    module: nn.Module, found: VisionWeights, path: str | Path, *, file_depth: int | None = None
) -> None:
    """:func:`load_vision_weights` for weights already read; ``path`` is only named in messages."""
    expected = module.state_dict()
    _check_others(found, path)
    tensors = _front_blocks(found, expected, path, file_depth)
    if _CLASS_TOKEN not in expected:
        tensors.pop(_CLASS_TOKEN, None)  # detection and adapters drop it, as published
    _check_width(tensors, expected, path)
    dtype = found.tensors[_POSITIONS].dtype if found.layout == 'pth' else torch.float32
    _fit_embeddings(tensors, expected, dtype)
    _check_fit(tensors, expected, path)
    on_meta = any(tensor.is_meta for tensor in expected.values())
    module.load_state_dict(tensors, strict=True, assign=on_meta)


def _check_others(found: VisionWeights, path: str | Path) -> None:
    """Tensors that are not the ViT's: fine when they belong to another part of a known model, and then reported."""
    start = len(found.prefix)
    inside = [name for name in found.others if name.startswith(found.prefix)]
    if unknown := [name for name in inside if not name[start:].startswith(_KNOWN_EXTRAS)]:
        raise CheckpointError(
            f'{path}: {_listed(unknown)} is no part of InternViT. A final norm or a head means another architecture; '
            'a wrong name means an incomplete conversion'
        )
    if found.others:
        parts = Counter(name.split('.')[0] for name in found.others)
        listed = ', '.join(f'{count} of {part}' for part, count in parts.items())
        print_log(f'{path}: read {len(found.tensors)} tensors of InternViT, not read: {listed}', 'current')


def _front_blocks(
    found: VisionWeights, expected: Mapping[str, Tensor], path: str | Path, file_depth: int | None
) -> dict[str, Tensor]:
    """The tensors of the blocks the module has; an error when the depths do not agree with what was asked."""
    depth = 1 + max(map(block_index, expected))
    if found.depth != (file_depth or depth):
        asked = f'pretrained_depth={file_depth}' if file_depth else f'num_hidden_layers={depth}'
        way_out = f'set num_hidden_layers={found.depth}'
        if found.depth > depth:
            way_out += f', or pretrained_depth={found.depth} to take the first {depth} blocks'
        raise CheckpointError(f'{path} has {found.depth} blocks but the model asks for {asked}: {way_out}')
    if found.depth < depth:
        raise CheckpointError(
            f'{path} has {found.depth} blocks, fewer than num_hidden_layers={depth} of the model'
        )
    return {name: tensor for name, tensor in found.tensors.items() if block_index(name) < depth}


def _check_width(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: str | Path) -> None:
    """One line for the wrong width, instead of a shape mismatch for every tensor."""
    file_shape, shape = tuple(tensors[_POSITIONS].shape), tuple(expected[_POSITIONS].shape)
    if file_shape[-1:] != shape[-1:]:
        raise CheckpointError(
            f'{path} has width {file_shape[-1]} but the model has hidden_size={shape[-1]} '
            f'(positions: file {file_shape}, model {shape}): set hidden_size={file_shape[-1]} and the number of '
            'heads that goes with it, or take other weights'
        )


def _fit_embeddings(tensors: dict[str, Tensor], expected: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """Resample positions and patch kernel to the sizes of the module, in place."""
    # What is missing or has another number of dimensions is told with all other differences.
    if all(name in tensors and tensors[name].ndim == expected[name].ndim for name in (_POSITIONS, _KERNEL)):
        # [1, 1+N, D], N a square; the class token's position stays also where the token is dropped.
        side = round((expected[_POSITIONS].shape[1] - 1) ** 0.5)
        tensors[_POSITIONS] = resize_position_embedding(tensors[_POSITIONS], (side, side), dtype=dtype)
        tensors[_KERNEL] = resize_patch_kernel(tensors[_KERNEL], expected[_KERNEL].shape[-1], dtype=dtype)


def _check_fit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: str | Path) -> None:
    """Same names and same shapes, or one error that lists every difference and the setting that explains it."""
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    shapes = [
        f'{name} (file {tuple(tensors[name].shape)}, model {tuple(shape.shape)})'
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape.shape
    ]
    whole = [name for name, tensor in tensors.items() if not tensor.is_floating_point()]
    problems = [
        f'{what}: {_listed(names)}'
        for what, names in (
            ('not in the file', missing),
            ('not in the model', unexpected),
            ('other shape', shapes),
            ('whole numbers, which weights are not', whole),
        )
        if names
    ]
    hints = [
        f'set {setting}={has if in_file else has_not!r}'
        for tail, setting, has, has_not in _SETTINGS
        for in_file in [any(name.endswith(tail) for name in tensors)]
        if in_file != any(name.endswith(tail) for name in expected)
    ]
    if problems:
        way_out = (
            '; '.join(hints) or 'compare the config of the model with the config.json beside the weights'
        )
        raise CheckpointError(f'{path} does not fit the model. {". ".join(problems)}. Way out: {way_out}')


def _listed(names: list[str]) -> str:
    more = f' … ({len(names)} in all)' if len(names) > _SHOWN else ''
    return ', '.join(names[:_SHOWN]) + more
