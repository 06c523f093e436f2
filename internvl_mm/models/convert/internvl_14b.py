"""InternVL-14B weights of every origin to the names of the published folder.

- published folders, also fine-tuned with LoRA (merged here);
- the original file of InternVL-C (ViT, Llama without cross-attention, heads of C);
- checkpoints of our contrastive stage, which have the parts of that file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mmengine.logging import print_log
from torch import Tensor, nn

from .files import open_weights, read_json
from .load import fill_module
from .lora import merge_published_lora
from .names import VisionWeights, to_hf
from .probes import check_same

# Buffers that old versions stored and that follow from the config.
_IGNORED = re.compile(r'(^|\.)(position_ids|decoder\.version|rotary_emb\.inv_freq)$')
# What InternVL-C lacks: it starts new in the generative stage.
NEW_IN_G = re.compile(
    r'^(query_tokens$|clip_projector2\.|itm_head\.|qllama\.lm_head\.|.*\.cross_attn\.(norm[12]|[qkvo]_proj)\.)'
)
PUBLISHED_WIDTH = 3200  # of vision tokens, a constant of the published code
# Original file and our contrastive task -> published folder.
_RENAMED = (
    ('transformer.', 'qllama.model.'),  # of the original file
    ('text_encoder.transformer.', 'qllama.model.'),
    ('text_encoder.text_projection', 'text_projection'),
    ('criterion.logit_scale', 'logit_scale'),  # of our task, as the next two
    ('neck.pool.', 'clip_projector.'),
    ('neck.', 'clip_projector.'),  # a pool without attention
)


def read_internvl_14b(path: str | Path) -> tuple[VisionWeights, dict[str, Tensor]]:
    """Read weights of InternVL-14B or InternVL-C.

    Args:
        path: A folder or file, see :func:`~internvl_mm.models.convert.open_weights`.

    Returns:
        The InternViT, and every other tensor under its published name.

    Raises:
        CheckpointError: There is no InternViT, or the file is damaged.
    """
    weights: Mapping[str, Tensor] = open_weights(path)
    # lora_A is [r, in]; one rank per part, as the published trainer has it.
    ranks = {name.split('.')[0]: weights[name].shape[0] for name in weights if '.lora_A.' in name}
    if ranks:
        weights = merge_published_lora(weights, ranks)
    found = to_hf(weights)
    # Our tasks keep the whole model under one name; the ViT then tells it.
    outer = found.prefix.removesuffix('vision_model.') if found.prefix.endswith('vision_model.') else ''
    others = {
        published_name(name.removeprefix(outer)): weights[name]
        for name in found.others
        if not _IGNORED.search(name)
    }
    return VisionWeights(found.tensors, found.layout, found.prefix, ()), others


def published_name(name: str) -> str:
    """The name in the published folder of a tensor outside the ViT."""
    for theirs, ours in _RENAMED:
        if name.startswith(theirs):
            return ours + name[len(theirs) :]
    return name


def cross_attention_settings(folder: Path) -> dict[str, int]:
    """Settings of QLLaMA's cross-attention that published folders leave to constants of the code, from the weights.

    Returns:
        Nothing where the config says them, or where the width in the file is the constant (3200): then the other
        constant, 96 positions, holds, too.
    """
    settings = read_json(folder / 'config.json')
    inner = settings['qllama_config']
    weights = open_weights(folder)
    # norm2 is over the vision tokens: its length is their width.
    norm = next((name for name in weights if name.endswith('.cross_attn.norm2.weight')), None)
    width = weights[norm].shape[0] if norm else PUBLISHED_WIDTH
    if width == PUBLISHED_WIDTH or 'cross_attention_width' in inner:
        return {}
    queries = settings.get('num_query_token') or inner['num_query_token']
    return dict(cross_attention_width=width, cross_attention_positions=queries)


def load_internvl_14b(model: nn.Module, path: str | Path, *, allow_new: bool = False) -> None:
    """Load a model with the names of the published folder, strictly; positions are resampled to its image size.

    Args:
        model: A :class:`~internvl_mm.models.hf_internvl_14b.InternVL14BModel`.
        path: Weights of any origin.
        allow_new: Let what InternVL-C lacks (queries, cross-attention, second pool, matching and language head) keep
            its initial values, as the generative stage starts.

    Raises:
        CheckpointError: Lists what is missing, unexpected or of another shape.
    """
    vision, others = read_internvl_14b(path)
    expected = {
        name: tensor for name, tensor in model.state_dict().items() if not name.startswith('vision_model.')
    }
    if allow_new:
        new = [name for name in expected if name not in others and NEW_IN_G.match(name)]
        if new:
            print_log(f'{path}: {len(new)} tensors of the generative stage start new', 'current')
        expected = {name: tensor for name, tensor in expected.items() if name not in new}
    check_same(others, expected, str(path))
    fill_module(model.vision_model, vision, path)
    on_meta = any(tensor.is_meta for tensor in expected.values())
    model.load_state_dict(others, strict=False, assign=on_meta)  # names and shapes are checked above
