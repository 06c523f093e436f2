"""Adapters saved beside their weights, as the published trainer leaves them, merged into the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from internvl_mm.utils.errors import CheckpointError

# What peft puts around a model, and around a layer it adapts.
_AROUND_MODEL, _AROUND_LAYER = 'base_model.model.', '.base_layer.'
_DOWN, _UP = '.lora_A.default.weight', '.lora_B.default.weight'
_SCALE = 2  # alpha / rank: the published wrappers use alpha = 2 · rank for every part


def merge_published_lora(weights: Mapping[str, Tensor], ranks: Mapping[str, int]) -> dict[str, Tensor]:
    """Merge adapters into the layers they adapt: W + 2·B·A, computed in fp32, stored in the dtype of W.

    Works in the layout of the file, so that InternLM2's joint projection is adapted as it was trained.

    Args:
        weights: Names and tensors of a published folder.
        ranks: Part, such as ``'language_model'``, to the rank its config names; 0 for none.

    Returns:
        Plain names and merged tensors.

    Raises:
        CheckpointError: A layer to adapt is missing, half an adapter, or another rank than the config says.
    """
    plain = {_plain(name): name for name in weights}
    merged = {}
    for name, stored in plain.items():
        if '.lora_' in name:
            continue
        down = name.removesuffix('.weight') + _DOWN
        merged[name] = weights[stored]
        if down in plain:
            up = name.removesuffix('.weight') + _UP
            if up not in plain:
                raise CheckpointError(
                    f'{plain[down]} has no {_UP[1:]} beside it: half an adapter cannot be merged'
                )
            merged[name] = _merge(weights[stored], weights[plain[down]], weights[plain[up]])
    _check(plain, merged, weights, ranks)
    return merged


def _merge(weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """``[out, in]`` plus twice ``[out, r] @ [r, in]``."""
    with torch.no_grad():
        return (weight.float() + _SCALE * (up.float() @ down.float())).to(weight.dtype)


def _plain(name: str) -> str:
    return name.replace(_AROUND_MODEL, '', 1).replace(_AROUND_LAYER, '.')


def _check(
    plain: Mapping[str, str],
    merged: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    ranks: Mapping[str, int],
) -> None:
    for name, stored in plain.items():
        if not name.endswith(_DOWN):
            continue
        # It would be left out without a word, and with it what was trained.
        if name.removesuffix(_DOWN) + '.weight' not in merged:
            raise CheckpointError(f'{stored} adapts a layer that is not in the checkpoint')
        # lora_A is [r, in].
        rank, expected = weights[stored].shape[0], ranks.get(name.split('.')[0], 0)
        if rank != expected:
            raise CheckpointError(
                f'{stored} has rank {rank}, config.json says {expected}: the config of another checkpoint?'
            )
