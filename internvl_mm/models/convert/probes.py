"""Parts of published classification probes: names of the original ``.pth`` layout to ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from internvl_mm.utils.errors import CheckpointError

from .files import open_weights

# Published prefix -> ours, relative to the part of the classifier that owns the tensors.
# In files of the probes, and in the original 224px file, which holds the contrastive model's pool.
POOL_NAMES = {'attn_pooling.': 'pool.', 'clip_projector.': 'pool.'}
# Batch norm (with its running statistics) and the linear layer behind it.
HEAD_NAMES = {'norm.': 'norm.', 'head.': 'linear.'}


def rename(name: str, prefixes: Mapping[str, str]) -> str | None:
    """Our name of a published tensor, ``None`` when it belongs to another part."""
    for theirs, ours in prefixes.items():
        if name.startswith(theirs):
            return ours + name[len(theirs) :]
    return None


def load_part(module: nn.Module, path: str | Path, prefixes: Mapping[str, str]) -> None:
    """Load a neck or head from a published checkpoint; tensors of other parts in the file are left aside.

    Args:
        module: Takes every renamed tensor, no more and no less.
        path: A folder or file, see :func:`~internvl_mm.models.convert.open_weights`.
        prefixes: Published beginnings of names and ours, such as :data:`POOL_NAMES` or :data:`HEAD_NAMES`.

    Raises:
        CheckpointError: The file has no such part, or one of another shape.
    """
    weights = open_weights(path)
    found = {ours: weights[name] for name in weights if (ours := rename(name, prefixes)) is not None}
    check_same(found, module.state_dict(), str(path))
    module.load_state_dict(found)


def check_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Refuse tensors that are not exactly the expected ones in name and shape.

    Raises:
        CheckpointError: Lists what is missing, unexpected or of another shape.
    """
    shapes = [
        f'{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}'
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    differences = {
        'missing': sorted(expected.keys() - found.keys()),
        'unexpected': sorted(found.keys() - expected.keys()),
        'other shape': shapes,
    }
    if any(differences.values()):
        listed = '; '.join(f'{what}: {names[:4]}' for what, names in differences.items() if names)
        raise CheckpointError(
            f'{source}: the weights do not fit. {listed}. Are its kind and its sizes '
            '(depth, widths, heads, classes) those of the weights?'
        )
