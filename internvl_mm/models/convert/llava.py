"""LLaVA-style chat folders (InternVL-Chat-13B, 19B, 19B-448px and the frozen QLLaMA glue): names and sizes.

=========================================  =============================  ==================================
published                                  in memory, projector alone     in memory, queries and patches
=========================================  =============================  ==================================
model.vision_tower.vision_tower.*          vision_model.*                 –
…vision_tower.vision_model.*               –                              vision_model.*
…vision_tower.{qllama.*, query_tokens}     –                              mlp1.query_former.*
model.mm_projector.{0, 2}.*                mlp1.{0, 2}.*                  –
model.mm_projector.{mlp1, mlp2}.*          –                              mlp1.{patch_mlp, query_mlp}.*
model.*, lm_head.*                         language_model.{model.*, lm_head.*}  the same
=========================================  =============================  ==================================

Source: InternVL ``internvl_chat_llava``; Chen et al. 2023 (arXiv 2312.14238).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from internvl_mm.utils.errors import CheckpointError, ConfigError

from .files import open_weights, read_json
from .names import find_vision, to_hf
from .settings import vision_settings

_TOWER, PROJECTOR = 'model.vision_tower.vision_tower.', 'model.mm_projector.'
# Ordered: the first row whose published beginning fits decides.
_MLP = (
    (_TOWER, 'vision_model.'),
    (PROJECTOR, 'mlp1.'),
    ('model.', 'language_model.model.'),
    ('lm_head.', 'language_model.lm_head.'),
)
_GLUE = (
    (_TOWER + 'vision_model.', 'vision_model.'),
    (_TOWER, 'mlp1.query_former.'),  # queries and QLLaMA, which lie inside the tower
    (PROJECTOR + 'mlp1.', 'mlp1.patch_mlp.'),  # of the patches
    (PROJECTOR + 'mlp2.', 'mlp1.query_mlp.'),  # of the queries
    *_MLP[2:],
)
# Of InternVL-14B inside the glue's folder: pools and heads for contrast and matching, which a conversation never asks.
_UNUSED = re.compile(re.escape(_TOWER) + r'(clip_projector2?\.|itm_head\.|text_projection$|logit_scale$)')
# Tables that files of transformers before 4.32 still hold; computed, never learned.
_COMPUTED = 'rotary_emb.inv_freq'
_DEPTH = re.compile(r'mlp(\d+)x_gelu')
GLUE = 'two_mlp'


def projector_depth(kind: str) -> int:
    """Linear layers of an ``mm_projector_type``.

    Raises:
        ConfigError: A type no published folder has.
    """
    if kind == 'linear':
        return 1
    if kind == GLUE:
        return 2
    if match := _DEPTH.fullmatch(kind):
        return int(match[1])
    raise ConfigError(f'mm_projector_type={kind!r} is unknown: use linear, mlp{{N}}x_gelu or {GLUE}')


def from_llava(names: Iterable[str]) -> dict[str, str]:
    """Published name to name in memory; computed tables and unused heads are left out."""
    names = [name for name in names if not name.endswith(_COMPUTED) and not _UNUSED.match(name)]
    table = _GLUE if any(name.startswith(_GLUE[0][0]) for name in names) else _MLP
    return {name: _renamed(name, table) for name in names}


def to_llava(names: Iterable[str]) -> dict[str, str]:
    """Name in memory to published name; the inverse of :func:`from_llava`."""
    names = list(names)
    table = _GLUE if any(name.startswith(_GLUE[1][1]) for name in names) else _MLP
    back = [(ours, theirs) for theirs, ours in table]
    return {name: _renamed(name, back) for name in names}


def _renamed(name: str, table: Iterable[tuple[str, str]]) -> str:
    for old, new in table:
        if name.startswith(old):
            return new + name.removeprefix(old)
    raise CheckpointError(f'{name!r} is not the name of a tensor of a LLaVA-style chat folder')


def tower_settings(folder: Path) -> dict[str, Any]:
    """What a published ``config.json`` leaves to the folder of the vision tower, read off the tensors.

    Args:
        folder: Of the chat model; in ``vision_tower/config.json`` may lie the settings of a tower whose number of
            heads or norms are none of the published.

    Returns:
        ``vision_config``, and ``qllama_config`` where there is a QLLaMA.

    Raises:
        CheckpointError: There is no vision tower among the weights, or its heads cannot be known.
    """
    weights = open_weights(folder)
    # Names alone; a tensor is read when it is asked for.
    inside = [name.removeprefix(_TOWER) for name in weights if name.startswith(_TOWER)]
    if not inside:
        raise CheckpointError(
            f'{folder} has no tensors under {_TOWER}: a LLaVA-style folder without its vision tower cannot be loaded'
        )
    _, prefix = find_vision(inside)
    tower = {name: weights[_TOWER + name] for name in inside if name.startswith(prefix)}
    # Published code read this file from the folder the tower came from; whoever has it may put it here.
    beside = folder / 'vision_tower' / 'config.json'
    settings = {'vision_config': vision_settings(beside, to_hf(tower))}
    if 'query_tokens' in inside:
        found = _qllama_settings(inside, lambda name: weights[_TOWER + name].shape)
        stored = read_json(beside).get('qllama_config', {}) if beside.is_file() else {}
        settings['qllama_config'] = {**found, **stored}
    return settings


_QLLAMA_HEAD = 128  # channels of a head of InternVL-14B's QLLaMA: 4096 of 32 heads


def _qllama_settings(inside: list[str], shape: Callable[[str], Any]) -> dict[str, Any]:
    layers = 'qllama.model.layers.'
    crossed = sorted({int(name.split('.')[3]) for name in inside if '.cross_attn.' in name})
    width = shape('query_tokens')[-1]
    return dict(
        num_query_token=shape('query_tokens')[1],  # of [1, Q, D]
        # Every k-th layer has cross-attention: the distance of the first two tells k.
        cross_attention_frequency=crossed[1] - crossed[0] if len(crossed) > 1 else 2,
        vocab_size=shape('qllama.model.embed_tokens.weight')[0],
        hidden_size=width,
        intermediate_size=shape(layers + '0.mlp.up_proj.weight')[0],
        num_hidden_layers=1 + max(int(name.split('.')[3]) for name in inside if name.startswith(layers)),
        num_attention_heads=max(width // _QLLAMA_HEAD, 1),
        rms_norm_eps=1e-6,
    )
