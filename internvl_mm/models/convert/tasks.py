"""Whole published checkpoints under the names of our tasks: segmentation, detection, probes, InternVL-C and -14B."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from .dense import NECK_PARTS
from .internvl_14b import read_internvl_14b
from .names import to_hf
from .plain import complete_plain_vit
from .probes import HEAD_NAMES, rename

_BACKBONE, _NECK = 'backbone.', 'neck.'
_CLASS_TOKEN = 'embeddings.class_embedding'
# Of a whole classifier beside the ViT; the 224px file has the projector for probes that do not use it, too.
_PROBE = {
    'attn_pooling.': 'neck.pool.',
    **{theirs: f'head.{ours}' for theirs, ours in HEAD_NAMES.items()},
}
# Of the original file of InternVL-C beside the ViT, as the contrastive stage names it.
_CONTRASTIVE = {
    'clip_projector.': 'neck.pool.',
    'transformer.': 'text_encoder.transformer.',
    'text_projection': 'text_encoder.text_projection',
    'logit_scale': 'criterion.logit_scale',
}


def to_task(
    weights: Mapping[str, Tensor], expected: Collection[str], path: str | Path
) -> Mapping[str, Tensor]:
    """Rename a published checkpoint of a whole model.

    - Segmentation and detection: there the multi-scale neck is a part of the backbone, and the ViT lies beside its
      adapter; heads have the names mmseg and mmdet still give them. Nothing is left out, except a class token the model
      does not use.
    - Classification probes that were saved with their ViT.
    - The original file of InternVL-C, for the contrastive stage; InternVL-14B, for the stages after it.

    Args:
        weights: Stored name to tensor.
        expected: Names of the task.
        path: Of the checkpoint.

    Returns:
        The tensors under the names of the task, as far as it has them; ``weights`` itself when it is no such
        checkpoint.

    Raises:
        CheckpointError: Damaged, or without its ViT.
    """
    # No task of ours has this name, every published checkpoint of a whole dense model does.
    if f'{_BACKBONE}pos_embed' in weights:
        return _dense(weights, expected, path)
    if {'pos_embed', 'norm.running_mean'} <= set(weights) and 'head.norm.running_mean' in expected:
        pool = {} if 'attn_pooling.norm1_q.weight' in weights else {'clip_projector.': 'neck.pool.'}
        return _beside_vit(weights, {**_PROBE, **pool}, expected)
    if 'transformer.norm.weight' in weights and 'text_encoder.transformer.norm.weight' in expected:
        return _beside_vit(weights, _CONTRASTIVE, expected)
    # Of the ViT alone 'text_projection' is no part, in any layout.
    if 'text_projection' in weights and 'model.text_projection' in expected:
        vision, others = read_internvl_14b(path)
        tensors = {f'vision_model.{name}': tensor for name, tensor in vision.tensors.items()} | others
        return {f'model.{name}': tensor for name, tensor in tensors.items()}
    return weights


def _beside_vit(
    weights: Mapping[str, Tensor], prefixes: Mapping[str, str], expected: Collection[str]
) -> dict[str, Tensor]:
    """A ViT, and what lies beside it by the beginnings of its names; a projector that is not used is left out."""
    found = to_hf(weights)
    renamed = {f'{_BACKBONE}{name}': tensor for name, tensor in found.tensors.items()}
    for name in found.others:
        ours = rename(name, prefixes) or name
        if ours in expected or not name.startswith('clip_projector.'):
            renamed[ours] = weights[name]
    return renamed


def _dense(weights: Mapping[str, Tensor], expected: Collection[str], path: str | Path) -> dict[str, Tensor]:
    weights = complete_plain_vit(weights, path)
    found = to_hf(weights)
    renamed: dict[str, Tensor] = {}
    for name, tensor in found.tensors.items():
        ours = _first([f'{_BACKBONE}{name}', f'{_BACKBONE}vit.{name}'], expected)
        # Windows and adapters have no place for a class token, which their checkpoints may still carry.
        if name != _CLASS_TOKEN or ours in expected:
            renamed[ours] = tensor
    for name in found.others:
        renamed[_first(_candidates(name), expected)] = weights[name]
    return renamed


def _candidates(name: str) -> list[str]:
    """Where a tensor beside the ViT may lie in a task; a neck of ours may come before mmdet's."""
    inside = name.removeprefix(_BACKBONE)
    if inside != name and inside.startswith(NECK_PARTS):
        return [f'{_NECK}{inside}', f'{_NECK}0.{inside}']
    if name.startswith(_NECK):
        # [ours, FPN] in a row: FPN is number 1.
        return [name, f'{_NECK}1.{name.removeprefix(_NECK)}']
    return [name]


def _first(candidates: list[str], expected: Collection[str]) -> str:
    """The first name the task has; the plain one when it has none, which strict loading then reports."""
    return next((name for name in candidates if name in expected), candidates[0])
