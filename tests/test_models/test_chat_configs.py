"""Model configs of every published chat model: sizes and names of what they build, on the meta device."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from internvl_mm.engine.config import check_config, config_root
from internvl_mm.models.chat_model import ChatModel
from internvl_mm.models.language.internlm2 import InternLM2Config, from_llama
from internvl_mm.registry import MODELS

ROOT = config_root() / '_base_' / 'models'
# Billions of parameters: of the whole (cards and the papers), as far as published also of the language model.
PUBLISHED = {
    'internvl_chat_13b': 13.0,
    'internvl_chat_19b': 19.0,
    'internvl_chat_19b_448px': 19.0,
    'internvl_chat_v1_1': 19.11,
    'internvl_chat_v1_2': 40.1,
    'internvl_chat_v1_2_plus': 40.1,
    'internvl_chat_v1_5': 25.5,
    'mini_internvl_chat_2b_v1_5': 2.2,
    'mini_internvl_chat_4b_v1_5': 4.2,
    'internvl2_1b': 0.9,
    'internvl2_2b': 2.2,
    'internvl2_4b': 4.2,
    'internvl2_8b': 8.1,
    'internvl2_26b': 25.5,
    'internvl2_40b': 40.1,
    'internvl2_llama3_76b': 76.3,
    'internvl2_5_1b': 0.9,
    'internvl2_5_2b': 2.2,
    'internvl2_5_4b': 3.7,
    'internvl2_5_8b': 8.1,
    'internvl2_5_26b': 25.5,
    'internvl2_5_38b': 38.4,
    'internvl2_5_78b': 78.4,
    'internvl3_1b': 0.9,
    'internvl3_2b': 2.1,
    'internvl3_8b': 7.9,
    'internvl3_9b': 9.1,
    'internvl3_14b': 15.1,
    'internvl3_38b': 38.4,
    'internvl3_78b': 78.4,
}
# QLLaMA (8 B with its cross-attention) beside the 13B and 19B models.
GLUED = {'internvl_chat_13b_qllama': 20.9, 'internvl_chat_19b_qllama': 27.3}
PUBLISHED_KEYS = {
    'LlamaForCausalLM': r'model\.layers\.#\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj|(input|post_attention)_'
    r'layernorm)\.weight|model\.(embed_tokens|norm)\.weight|lm_head\.weight',
    'Qwen2ForCausalLM': r'model\.layers\.#\.(self_attn\.([qkvo]_proj\.weight|[qkv]_proj\.bias)|mlp\.(gate|up|down)_proj'
    r'\.weight|(input|post_attention)_layernorm\.weight)|model\.(embed_tokens|norm)\.weight|lm_head\.weight',
    'Phi3ForCausalLM': r'model\.layers\.#\.(self_attn\.(qkv|o)_proj|mlp\.(gate_up|down)_proj|(input|post_attention)_'
    r'layernorm)\.weight|model\.(embed_tokens|norm)\.weight|lm_head\.weight',
    'InternLM2ForCausalLM': r'model\.layers\.#\.(attention\.(wqkv|wo)|feed_forward\.w[123]|attention_norm|ffn_norm)'
    r'\.weight|model\.(tok_embeddings|norm)\.weight|output\.weight',
}
PUBLISHED_KEYS['InternLM3ForCausalLM'] = PUBLISHED_KEYS['LlamaForCausalLM']


def load(name: str) -> dict:
    return Config.fromfile(ROOT / 'chat' / f'{name}.py').model


def build(name: str) -> ChatModel:
    settings = load(name)
    # the folder to start from is not here
    settings['language_model'] = {k: v for k, v in settings['language_model'].items() if k != 'pretrained'}
    with torch.device('meta'):
        return MODELS.build(settings)


def stored_names(model: ChatModel) -> set[str]:
    """Names a published folder has for this model."""
    language = model.language_model.state_dict()
    if isinstance(model.language_model.config, InternLM2Config):
        config = model.language_model.config
        language = from_llama(language, heads=config.num_attention_heads, kv_heads=config.num_key_value_heads)
    others = {name for name in model.state_dict() if not name.startswith('language_model.')}
    return others | {f'language_model.{name}' for name in language}


def test_there_is_a_config_for_every_published_model() -> None:
    assert {file.stem for file in (ROOT / 'chat').glob('[!_]*.py')} == {*PUBLISHED, *GLUED}


@pytest.mark.parametrize('name', [*PUBLISHED, *GLUED])
def test_sizes_are_the_published_ones(name: str) -> None:
    model = build(name)
    billions = sum(parameter.numel() for parameter in model.parameters()) / 1e9
    published = {**PUBLISHED, **GLUED}[name]
    # A card rounds to 0.1 billion, a name to whole ones.
    named = name in GLUED or re.search(r'_(13|19)b', name)
    assert billions == pytest.approx(published, abs=0.5 if named else 0.06)
    assert model.num_image_token == (
        {'internvl_chat_19b_448px': 1024, **dict.fromkeys(GLUED, 672)}.get(name)
        or (576 if name in ('internvl_chat_13b', 'internvl_chat_19b') else 256)
    )
    model.conv_template.render([('Q', None)], model.system_message)


@pytest.mark.parametrize('file', sorted((config_root() / 'chat').glob('*.py')), ids=lambda file: file.stem)
def test_recipes_train_with_the_system_message_that_they_export(file: Path) -> None:
    config = Config.fromfile(file)
    data = config.train_dataloader.dataset
    encoder = data.get('dataset', data)['encoder']
    assert encoder.get('system_message') == config.model.chat.get('system_message')


@pytest.mark.parametrize('name', PUBLISHED)
def test_names_are_the_published_ones(name: str) -> None:
    model = build(name)
    names = stored_names(model)
    families = {re.sub(r'\.\d+\.', '.#.', name, count=1) for name in names if 'layers' in name}
    families |= {name for name in names if 'layers' not in name}
    pattern = PUBLISHED_KEYS[model.language_model.config.architectures[0]]
    language = {
        name.removeprefix('language_model.') for name in families if name.startswith('language_model.')
    }
    assert all(re.fullmatch(pattern, name) for name in language), language
    layers = model.language_model.config.num_hidden_layers
    assert sum('layers' in name for name in names if name.startswith('language_model.')) == layers * sum(
        'layers' in name for name in language
    )
    vision = {name.removeprefix('vision_model.') for name in families if name.startswith('vision_model.')}
    big = model.vision_model.width == 3200
    assert ('encoder.layers.#.attn.q_norm.weight' in vision) == big
    assert ('encoder.layers.#.attn.qkv.bias' in vision) == (not big)
    assert ('encoder.layers.#.norm1.bias' in vision) == (not big)
    mlp = {name.removeprefix('mlp1.') for name in families if name.startswith('mlp1.')}
    parts = ('0', '2') if 'LlavaMlp' in str(type(model.mlp1)) else ('0', '1', '3')
    assert mlp == {f'{part}.{kind}' for part in parts for kind in ('weight', 'bias')}


def test_what_distinguishes_the_releases() -> None:
    first, second = build('internvl_chat_v1_1'), build('internvl_chat_v1_5')
    assert (first.select_layer, first.mlp1.version, first.vision_model.num_layers) == (-4, 'v1', 48)
    assert (second.select_layer, second.mlp1.version, second.vision_model.num_layers) == (-1, 'v2', 45)
    assert second.language_model.config.rope_parameters['rope_type'] == 'dynamic'
    assert build('internvl_chat_13b').select_layer == -4
    assert build('internvl2_1b').language_model.config.tie_word_embeddings is False
    # 91.78 million in the card of V1-1
    assert sum(parameter.numel() for parameter in first.mlp1.parameters()) == 91_786_240


@pytest.mark.parametrize('file', sorted((ROOT / 'language').glob('[!_]*.py')), ids=lambda file: file.stem)
def test_a_language_model_is_a_short_file(file: Path) -> None:
    source = file.read_text('utf-8')
    body = ast.parse(source).body
    assert len(body) == 3 and ast.get_docstring(ast.parse(source)), 'docstring, import and settings'
    with torch.device('meta'):
        settings = Config.fromfile(file).language_model
        settings.pop('pretrained', None)
        model = MODELS.build(settings)
    assert model.config._attn_implementation == 'sdpa'


def test_settings_are_checked_as_in_every_config() -> None:
    check_config(Config(dict(model=load('internvl2_1b'))), purpose='read')
    wrong = load('internvl2_1b')
    wrong['conector'] = wrong.pop('connector')
    with pytest.raises(ValueError, match='conector'):
        check_config(Config(dict(model=wrong)), purpose='read')
