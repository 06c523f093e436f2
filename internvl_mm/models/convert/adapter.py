"""Published ViT-Adapter checkpoints into our adapter: beside the ViT the names are the same, and all must be there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from .dense import ADAPTER_PARTS
from .files import open_weights
from .load import fill_module
from .names import to_hf
from .plain import complete_plain_vit
from .probes import check_same

_VIT = 'vit.'  # the ViT inside our adapter


def has_adapter(weights: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint holds an adapter."""
    # Not fc1, which an adapter of three maps has not.
    return any(name.endswith('spm.fc2.weight') for name in weights)


def load_adapter(adapter: nn.Module, path: str | Path) -> None:
    """Load a published adapter checkpoint, ViT included: InternViT's, or an original one around a plain ViT.

    Tensors of other parts in the file (decode head) are left aside and reported.

    Args:
        adapter: A :class:`~internvl_mm.models.backbones.ViTAdapter` around an InternViT.
        path: A folder or file, see :func:`~internvl_mm.models.convert.open_weights`.

    Raises:
        CheckpointError: Names or shapes differ from those of the adapter or of its ViT.
    """
    fill_adapter(adapter, open_weights(path), path)


def fill_adapter(adapter: nn.Module, weights: Mapping[str, Tensor], path: str | Path) -> None:
    """:func:`load_adapter` for weights already read; ``path`` is only named in messages."""
    found = to_hf(complete_plain_vit(weights, path))
    # In published files the adapter lies beside the tensors of the ViT, in ours the ViT is a part of it.
    start = found.prefix.removesuffix(_VIT)
    mine = [
        name
        for name in found.others
        if name.startswith(start) and name[len(start) :].startswith(ADAPTER_PARTS)
    ]
    state = {name[len(start) :]: weights[name] for name in mine}
    own = {name: tensor for name, tensor in adapter.state_dict().items() if not name.startswith(_VIT)}
    check_same(state, own, f'adapter in {path}')
    others = tuple(name for name in found.others if name not in set(mine))
    fill_module(adapter.get_submodule('vit'), replace(found, others=others), path)
    adapter.load_state_dict(state, strict=False)  # checked above, name by name
