"""Whole published segmentation and detection checkpoints under the names of our tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from torch import Tensor

from .dense import NECK_PARTS
from .names import to_hf
from .plain import complete_plain_vit

_BACKBONE, _NECK = 'backbone.', 'neck.'
_CLASS_TOKEN = 'embeddings.class_embedding'


def to_task(
    weights: Mapping[str, Tensor], expected: Collection[str], path: str | Path
) -> Mapping[str, Tensor]:
    """Rename a published checkpoint of a whole segmentation or detection model.

    There the multi-scale neck is a part of the backbone, and the ViT lies beside its adapter; heads have the names
    mmseg and mmdet still give them. Nothing is left out, except a class token the model does not use.

    Args:
        weights: Stored name to tensor.
        expected: Names of the task.
        path: Only named in messages.

    Returns:
        The tensors under the names of the task, as far as it has them; ``weights`` itself when it is no such
        checkpoint.
    """
    # No task of ours has this name, every published checkpoint of a whole model does.
    if f'{_BACKBONE}pos_embed' not in weights:
        return weights
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
