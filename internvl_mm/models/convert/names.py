"""The four layouts InternViT weights come in, as one table of names.

====== ======================================================================================= ==================
layout where it is found                                                                       sizes
====== ======================================================================================= ==================
hf     published Hugging Face folders; the names of our own modules                            all
pth    published ``.pth`` files of classification, segmentation and detection                  all
timm   timm's ``vit_intern300m_patch14_448``; the names of ``pth``                             300M (no QK norm)
native transformers' ``InternVLVisionModel``: queries, keys and values apart                   all
====== ======================================================================================= ==================

Everything is renaming, except that ``native`` splits ``qkv`` in three; no value is touched and no dtype changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from internvl_mm.utils.errors import CheckpointError

Layout = Literal['hf', 'pth', 'timm', 'native']
LAYOUTS: tuple[Layout, ...] = ('hf', 'pth', 'timm', 'native')

# Modules that hold an InternViT: chat checkpoints, transformers-native ones (new and old), our own tasks, and what
# data-parallel wrappers put before the names.
PREFIXES = (
    '',
    'vision_model.',
    'model.vision_model.',
    'model.vision_tower.',
    'vision_tower.',
    'backbone.',
    'module.',
    'module.backbone.',
    'vit.',  # inside our adapter
    'backbone.vit.',
)

_PTH, _NATIVE = 1, 2  # columns of the tables; timm shares the column of pth
_COLUMN: dict[Layout, int] = {'hf': 0, 'pth': _PTH, 'timm': _PTH, 'native': _NATIVE}
# How names of blocks begin, by column.
_BLOCKS = ('encoder.layers.', 'blocks.', 'encoder.layer.')
# Outside of the blocks: hf, pth and timm, native.
_OUTSIDE = (
    ('embeddings.class_embedding', 'cls_token', 'embeddings.cls_token'),  # [1, 1, D]
    # [1, 1+G², D], the class token's first
    ('embeddings.position_embedding', 'pos_embed', 'embeddings.position_embeddings'),
    (
        'embeddings.patch_embedding.weight',
        'patch_embed.proj.weight',  # [D, 3, 14, 14]
        'embeddings.patch_embeddings.projection.weight',
    ),
    (
        'embeddings.patch_embedding.bias',
        'patch_embed.proj.bias',  # [D]
        'embeddings.patch_embeddings.projection.bias',
    ),
)
# What tells the layout: detection and adapter checkpoints have no class token.
_POSITIONS = _OUTSIDE[1]
# Inside a block, in the same columns.
_IN_BLOCK = (
    ('norm1.weight', 'norm1.weight', 'layernorm_before.weight'),  # [D]
    ('norm1.bias', 'norm1.bias', 'layernorm_before.bias'),  # [D], layer norms only: the 300M
    # [3D, D]: queries, keys, values, in this order
    ('attn.qkv.weight', 'attn.qkv.weight', 'attention.{}_proj.weight'),
    ('attn.qkv.bias', 'attn.qkv.bias', 'attention.{}_proj.bias'),  # [3D], only the 300M
    # upstream's own script to native leaves these two unrenamed
    # [D]: over all heads jointly, only the 6B
    ('attn.q_norm.weight', 'attn.q_norm.weight', 'attention.q_norm.weight'),
    ('attn.k_norm.weight', 'attn.k_norm.weight', 'attention.k_norm.weight'),  # [D]
    (
        'attn.q_norm.bias',
        'attn.q_norm.bias',
        'attention.q_norm.bias',
    ),  # layer norms; no published weights have them
    ('attn.k_norm.bias', 'attn.k_norm.bias', 'attention.k_norm.bias'),
    ('attn.proj.weight', 'attn.proj.weight', 'attention.projection_layer.weight'),  # [D, D]
    ('attn.proj.bias', 'attn.proj.bias', 'attention.projection_layer.bias'),  # [D], in every size
    ('ls1', 'ls1.gamma', 'lambda_1'),  # [D]
    ('norm2.weight', 'norm2.weight', 'layernorm_after.weight'),  # [D]
    ('norm2.bias', 'norm2.bias', 'layernorm_after.bias'),  # [D], the 300M
    ('mlp.fc1.weight', 'mlp.fc1.weight', 'mlp.fc1.weight'),  # [M, D]; M = 4D in every size
    ('mlp.fc1.bias', 'mlp.fc1.bias', 'mlp.fc1.bias'),  # [M]
    ('mlp.fc2.weight', 'mlp.fc2.weight', 'mlp.fc2.weight'),  # [D, M]
    ('mlp.fc2.bias', 'mlp.fc2.bias', 'mlp.fc2.bias'),  # [D]
    ('ls2', 'ls2.gamma', 'lambda_2'),  # [D]
)


@dataclass(frozen=True)
class VisionWeights:
    """An InternViT found in a checkpoint.

    Attributes:
        tensors: HF name to tensor.
        layout: Where the names came from; ``'pth'`` also stands for timm, whose names are the same.
        prefix: Module the ViT was found in, with its dot; empty when the ViT stands alone.
        others: Names, as stored, that belong to no InternViT.
    """

    tensors: dict[str, Tensor]
    layout: Layout
    prefix: str
    others: tuple[str, ...]

    @property
    def depth(self) -> int:
        """Number of blocks, from the highest block index."""
        return 1 + max((block_index(name) for name in self.tensors), default=-1)


def block_index(name: str) -> int:
    """Index of the block an HF name belongs to, -1 for the embeddings."""
    return int(name.split('.')[2]) if name.startswith(_BLOCKS[0]) else -1


def find_vision(names: Iterable[str]) -> tuple[Layout, str]:
    """Tell the layout and the prefix of the InternViT among the names of a checkpoint.

    Raises:
        CheckpointError: There is no InternViT.
    """
    names = set(names)
    for prefix in PREFIXES:
        for layout in ('hf', 'pth', 'native'):
            if prefix + _POSITIONS[_COLUMN[layout]] in names:
                return layout, prefix
    markers = ', '.join(repr(name) for name in _POSITIONS)
    shown = ', '.join(sorted(names)[:5]) or 'nothing'
    raise CheckpointError(
        f'no InternViT in this checkpoint: none of {markers} is among its {len(names)} names, alone or under '
        f'{", ".join(PREFIXES[1:])} (it begins with {shown}). Is it the checkpoint of another model?'
    )


def stored_names(name: str, layout: Layout) -> list[str]:
    """Names an HF tensor has in ``layout``: one, or three (q, k, v) for the joint projection in native."""
    column = _COLUMN[layout]
    for row in _OUTSIDE:
        if row[0] == name:
            return [row[column]]
    match = re.fullmatch(r'encoder\.layers\.(\d+)\.(.+)', name)
    for row in _IN_BLOCK if match else ():
        if row[0] == match[2]:
            tails = [row[column].format(part) for part in 'qkv'] if '{}' in row[column] else [row[column]]
            return [f'{_BLOCKS[column]}{match[1]}.{tail}' for tail in tails]
    raise CheckpointError(f'{name!r} is not the name of an InternViT tensor in the Hugging Face layout')


def _hf_name(stored: str, layout: Layout) -> str | None:
    """HF name of a tensor named ``stored`` in ``layout``, ``None`` when it is not InternViT's."""
    column = _COLUMN[layout]
    for row in _OUTSIDE:
        if row[column] == stored:
            return row[0]
    match = re.fullmatch(re.escape(_BLOCKS[column]) + r'(\d+)\.(.+)', stored)
    for row in _IN_BLOCK if match else ():
        if match[2] in {row[column].format(part) for part in 'qkv'}:
            return f'{_BLOCKS[0]}{match[1]}.{row[0]}'
    return None


def to_hf(weights: Mapping[str, Tensor]) -> VisionWeights:
    """Find the InternViT in a checkpoint of any layout and give its tensors their HF names.

    Args:
        weights: Stored name to tensor; only tensors of the InternViT are read from it.

    Raises:
        CheckpointError: There is no InternViT, or one of the three parts of a split projection is missing.
    """
    layout, prefix = find_vision(weights)
    names: list[str] = []
    others = []
    for stored in weights:
        name = _hf_name(stored[len(prefix) :], layout) if stored.startswith(prefix) else None
        if name is None:
            others.append(stored)
        else:
            names.append(name)
    tensors = {}
    # Queries, keys and values gave the same HF name three times.
    for name in dict.fromkeys(names):
        parts = [prefix + stored for stored in stored_names(name, layout)]
        if missing := [part for part in parts if part not in weights]:
            raise CheckpointError(f'{", ".join(missing)} missing beside the other parts of {name!r}')
        # Rows in the order q, k, v: [3D, D], as the joint projection is read.
        tensors[name] = weights[parts[0]] if len(parts) == 1 else torch.cat([weights[part] for part in parts])
    return VisionWeights(tensors, layout, prefix, tuple(others))


def from_hf(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Give tensors with HF names the names of another layout.

    Raises:
        CheckpointError: A name is not InternViT's.
    """
    renamed = {}
    for name, tensor in tensors.items():
        stored = stored_names(name, layout)
        # Copies, because safetensors does not save views of one tensor apart.
        parts = [part.clone() for part in tensor.chunk(3)] if len(stored) == 3 else [tensor]
        renamed.update(zip(stored, parts, strict=True))
    return renamed
