"""Plain vision transformers (DeiT, AugReg) and original ViT-Adapter checkpoints, completed to the ``.pth`` layout.

They are InternViT's 300M form with two differences: layer scale is called ``gamma1``/``gamma2`` or does not exist, and
a final norm and a classifier follow, which dense prediction does not use.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor

from .names import VisionWeights, find_vision

_SCALES = {'gamma1': 'ls1.gamma', 'gamma2': 'ls2.gamma'}
# After the blocks of a classifier: final norm, classifier, and DeiT's second one.
_UNUSED = ('norm.', 'head.', 'head_dist.', 'pre_logits.')


def complete_plain_vit(weights: Mapping[str, Tensor], path: str | Path) -> Mapping[str, Tensor]:
    """Give a plain ViT what it lacks of InternViT's ``.pth`` layout; anything else is returned as it is.

    A missing layer scale becomes ones, which computes the same. What is left out is reported.

    Args:
        weights: Stored name to tensor.
        path: Only named in messages.

    Raises:
        CheckpointError: There is no vision transformer.
    """
    layout, prefix = find_vision(weights)
    tails = {name[len(prefix) :]: name for name in weights if name.startswith(prefix)}
    in_blocks = [match for tail in tails if (match := re.fullmatch(r'blocks\.(\d+)\.(.+)', tail))]
    kinds = {match[2] for match in in_blocks}
    # A scale by another name, or a block like the 300M's without one. InternViT always has both.
    plain = bool(kinds & _SCALES.keys()) or ('attn.qkv.bias' in kinds and 'ls1.gamma' not in kinds)
    if layout != 'pth' or not plain or 'attn.q_norm.weight' in kinds:
        return weights
    left_out = [name for tail, name in tails.items() if tail.startswith(_UNUSED)]
    completed = {name: weights[name] for name in weights if name not in set(left_out)}
    # The original adapter's name of layer scale.
    for match in in_blocks:
        if match[2] in _SCALES:
            block = f'{prefix}blocks.{match[1]}.'
            completed[block + _SCALES[match[2]]] = completed.pop(block + match[2])
    if not kinds & _SCALES.keys():
        ones = torch.ones_like(weights[f'{prefix}blocks.0.norm1.weight'])  # [D]
        for index in {match[1] for match in in_blocks}:
            completed |= {f'{prefix}blocks.{index}.{scale}': ones for scale in _SCALES.values()}
    parts = ', '.join(
        f'{count} of {part}' for part, count in Counter(n.split('.')[-2] for n in left_out).items()
    )
    print_log(
        f'{path}: a plain vision transformer; layer scale {"renamed" if kinds & _SCALES.keys() else "set to 1"}, '
        f'not read: {parts or "nothing"}',
        'current',
    )
    return completed


def complete_layer_scale(found: VisionWeights) -> VisionWeights:
    """Give blocks made without layer scale (published ``init_values`` of 0 or ``None``) one of ones: the same sums.

    Args:
        found: A ViT, whose blocks may or may not have layer scales.
    """
    tensors = dict(found.tensors)
    for index in range(found.depth):
        block = f'encoder.layers.{index}.'
        # [D], in the dtype of the block's norm, as a stored scale would be.
        for name in (f'{block}ls1', f'{block}ls2'):
            tensors.setdefault(name, torch.ones_like(tensors[f'{block}norm1.weight']))
    return replace(found, tensors=tensors)
