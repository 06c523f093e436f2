"""Chat models between the published layout and transformers' own ``InternVLForConditionalGeneration``.

======================  ==========================================
published               transformers-native, as in memory
======================  ==========================================
vision_model.*          model.vision_tower.*  (names of ``native`` in :mod:`.names`, qkv apart)
mlp1.0, .1, .3          model.multi_modal_projector.layer_norm, .linear_1, .linear_2
language_model.model.*  model.language_model.*
language_model.lm_head  lm_head
======================  ==========================================

The published side is the one in memory: InternLM2 has become Llama, whose names its native model has too. No value is
touched and no dtype changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, LlamaConfig
from transformers.initialization import no_init_weights

from internvl_mm.models.hf_internvl_chat import InternVLChatConfig, InternVLChatModel
from internvl_mm.models.language.families import published_settings
from internvl_mm.models.language.internlm2 import InternLM2Config
from internvl_mm.utils.errors import CheckpointError

from .names import from_hf, to_hf
from .settings import hf_settings, native_settings

_VISION = ('vision_model.', 'model.vision_tower.')
_PLAIN = (
    ('mlp1.0.', 'model.multi_modal_projector.layer_norm.'),  # over the 2 × 2 patches of a token: [4·V]
    ('mlp1.1.', 'model.multi_modal_projector.linear_1.'),  # 4·V to H; mlp1.2 is the GELU
    ('mlp1.3.', 'model.multi_modal_projector.linear_2.'),  # H to H
    ('language_model.lm_head.', 'lm_head.'),
    ('language_model.model.', 'model.language_model.'),
)
# Published settings a native config has no field for, kept under this key so that the way back is exact.
KEPT = 'internvl_chat'
_KEPT_FIELDS = (
    'template system_message force_image_size dynamic_image_size use_thumbnail min_dynamic_patch max_dynamic_patch '
    'pad2square'
).split()
# All releases transformers publishes itself are InternVL2.5 and later.
_TEMPLATE = 'internvl2_5'


def native_names(name: str) -> list[str]:
    """Native names of a published one: one, or three for a joint projection of the vision tower.

    Raises:
        CheckpointError: The name is no chat model's.
    """
    # Three rows, because a joint projection is cut in three along them.
    probe = {name.removeprefix(_VISION[0]): torch.empty(3, 0)}
    if name.startswith(_VISION[0]):
        return [_VISION[1] + native for native in from_hf(probe, 'native')]
    for ours, theirs in _PLAIN:
        if name.startswith(ours):
            return [theirs + name.removeprefix(ours)]
    raise CheckpointError(f'{name!r} is not the name of a tensor of a published chat model')


def tensors_to_native(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names (in memory) to native ones."""
    vision = {n.removeprefix(_VISION[0]): t for n, t in tensors.items() if n.startswith(_VISION[0])}
    renamed = {_VISION[1] + name: tensor for name, tensor in from_hf(vision, 'native').items()}
    for name, tensor in tensors.items():
        if not name.startswith(_VISION[0]):
            renamed[native_names(name)[0]] = tensor
    return renamed


def tensors_to_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Native names to published ones (in memory)."""
    vision = {n: t for n, t in tensors.items() if n.startswith(_VISION[1])}
    renamed = {_VISION[0] + name: tensor for name, tensor in to_hf(vision).tensors.items()}
    for name, tensor in tensors.items():
        for ours, theirs in _PLAIN if name not in vision else ():
            if name.startswith(theirs):
                renamed[ours + name.removeprefix(theirs)] = tensor
    return renamed


def to_native(model: InternVLChatModel, image_token_id: int) -> InternVLForConditionalGeneration:
    """The same tensors as transformers' own class.

    Args:
        model: A published chat model.
        image_token_id: Id of ``<IMG_CONTEXT>``.

    Raises:
        CheckpointError: The model has something the native class lacks.
    """
    config = model.config
    if config.ps_version != 'v2':
        raise CheckpointError(
            f"ps_version={config.ps_version!r}: transformers' own class knows the token order of 'v2' alone, so models "
            'up to V1-2-Plus stay in the published layout'
        )
    native_config = InternVLConfig(
        vision_config=InternVLVisionConfig(**native_settings(config.vision_config.to_dict())),
        text_config=_native_text(config),
        image_token_id=image_token_id,
        image_seq_length=model.num_image_token,  # of one tile
        downsample_ratio=config.downsample_ratio,
        vision_feature_layer=config.select_layer,
        # Every published folder stores an output matrix of its own.
        tie_word_embeddings=False,
        dtype=str(model.dtype).removeprefix('torch.'),
    )
    kept = {name: getattr(config, name) for name in _KEPT_FIELDS if hasattr(config, name)}
    setattr(native_config, KEPT, {**kept, 'llm_config': published_settings(config.llm_config)})
    # Flash is the published default of the tower and has no native field of this name.
    with torch.device('meta'), no_init_weights():
        native = InternVLForConditionalGeneration(native_config)
    return _filled(native, tensors_to_native(model.state_dict()))


def _native_text(config: InternVLChatConfig) -> Any:
    language = config.llm_config
    if not isinstance(language, InternLM2Config):
        return language
    # In memory it is a Llama already, and transformers has no class of its own name.
    settings = {
        name: value
        for name, value in language.to_dict().items()
        if name not in ('bias', 'model_type', 'architectures')
    }
    return LlamaConfig(**settings, architectures=['LlamaForCausalLM'])


def to_published(native: InternVLForConditionalGeneration) -> InternVLChatModel:
    """The same tensors as the published class; settings a native config lacks are those :func:`to_native` kept.

    Without them (folders of others) the template is that of InternVL2.5, which all native releases have.
    """
    config = native.config
    kept = dict(getattr(config, KEPT, None) or {})
    language = kept.pop('llm_config', None)
    if language is None:
        language = {**config.text_config.to_dict()}
        language['architectures'] = language.get('architectures') or [_head_class(config.text_config)]
    # Native configs hold [height, width], published ones the side of a square.
    size = config.vision_config.image_size
    kept.setdefault('template', _TEMPLATE)
    kept.setdefault('force_image_size', size[0] if isinstance(size, (list, tuple)) else size)
    published = InternVLChatConfig(
        vision_config=hf_settings(config.vision_config.to_dict()),
        llm_config=language,
        select_layer=config.vision_feature_layer,
        downsample_ratio=config.downsample_ratio,
        ps_version='v2',
        **kept,
    )
    with torch.device('meta'), no_init_weights():
        model = InternVLChatModel(published)
    return _filled(model, tensors_to_published(native.state_dict()))


def _head_class(text_config: Any) -> str:
    """Published architecture of a native text configuration, which often names that of the model without head."""
    return type(text_config).__name__.removesuffix('Config') + 'ForCausalLM'


def _filled(model: Any, tensors: dict[str, Tensor]) -> Any:
    """A model built without memory takes the tensors; buffers that are in no file are computed again."""
    own = model.state_dict()
    missing, unknown = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
    if missing or unknown:
        raise CheckpointError(
            f'the two layouts do not match: missing {missing[:4]}, unknown {unknown[:4]} '
            f'({len(missing)} and {len(unknown)} in all)'
        )
    model.load_state_dict(tensors, strict=True, assign=True)
    for module in model.modules():
        rotary = getattr(module, 'rotary_emb', None)
        if rotary is not None and hasattr(rotary, 'config'):
            # Its frequencies are a buffer outside of the state dict, still on meta here.
            module.rotary_emb = type(rotary)(rotary.config)
    return model.eval()
