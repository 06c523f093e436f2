"""A published chat folder as a model, strictly: every tensor has its place, adapters are merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from internvl_mm.models.hf_internvl_chat import InternVLChatConfig, InternVLChatModel
from internvl_mm.utils.errors import CheckpointError

from .files import find_weights, open_weights, read_json, stored_dtype
from .lora import merge_published_lora
from .quantised import open_plain

_SHOWN = 6  # names listed in an error before '...'
# Tables that files of transformers before 4.32 still hold; computed, never learned.
_COMPUTED = 'rotary_emb.inv_freq'


def load_chat(folder: Path) -> InternVLChatModel:
    """Load a published chat folder in the dtype it is stored in.

    Raises:
        CheckpointError: Tensors are missing, unknown or of another shape.
    """
    for part in ('vision_config', 'llm_config'):
        # The class would take the sizes of some model of many billions instead.
        if not (sizes := read_json(folder / 'config.json').get(part)) or not isinstance(sizes, dict):
            raise CheckpointError(
                f'{folder}: config.json has {part}={sizes!r}: it is incomplete, get it again'
            )
    config = InternVLChatConfig.from_pretrained(folder)
    ranks = config.adapter_ranks
    # Adapters are merged below, so the model has no layers for them.
    config.use_backbone_lora = config.use_llm_lora = 0
    # Other shapes are told below, in our words.
    settings: dict[str, Any] = dict(config=config, output_loading_info=True, ignore_mismatched_sizes=True)
    if getattr(config, 'quantization_config', None):
        found_weights = open_plain(folder, config)
        # Packed weights became plain ones of the dtype the config says.
        model, found = InternVLChatModel.from_pretrained(
            None, state_dict=dict(found_weights), dtype='auto', **settings
        )
    elif any(ranks.values()) or '.bin' in find_weights(folder).suffixes:
        # Pickles, whole or in shards, are read by our own reader, which runs none of them.
        weights: Mapping[str, Tensor] = merge_published_lora(open_weights(folder), ranks)
        model, found = InternVLChatModel.from_pretrained(
            None, state_dict=dict(weights), dtype=_dtype(weights), **settings
        )
    else:
        model, found = InternVLChatModel.from_pretrained(
            folder, use_safetensors=True, dtype=_dtype(open_weights(folder)), **settings
        )
    unexpected = [name for name in found['unexpected_keys'] if not name.endswith(_COMPUTED)]
    for problem, names in (('missing', found['missing_keys']), ('unknown', unexpected)):
        if names:
            raise CheckpointError(
                f'{folder}: {len(names)} tensors are {problem}: {_listed(names)}. The weights do not belong to this '
                'config.json, or the download is incomplete'
            )
    check_shapes(found['mismatched_keys'], folder)
    return model


def check_shapes(mismatched: Iterable[tuple[str, Any, Any]], folder: Path) -> None:
    """Tell the tensors that transformers found to have another shape than the config says.

    Args:
        mismatched: Name, stored and wanted shape of each.
        folder: Of the model.

    Raises:
        CheckpointError: There are some.
    """
    listed = sorted(mismatched)
    for name, stored, wanted in listed[:1]:
        raise CheckpointError(
            f'{folder}: {len(listed)} tensors have another shape than config.json says, such as {name}: '
            f'{tuple(stored)} in the file, {tuple(wanted)} by the config'
        )


def _dtype(weights: Mapping[str, Tensor]) -> Any:
    # Not what config.json says: the folder may have been cast without it, and values would be rounded in silence.
    return stored_dtype(weights, but=_COMPUTED) or 'auto'


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    return ', '.join(names[:_SHOWN]) + (' …' if len(names) > _SHOWN else '')
