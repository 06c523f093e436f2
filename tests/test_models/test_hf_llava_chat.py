"""LLaVA-style chat folders in their published layout: strict loading, and answers computed here from the parts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer, LlavaConfig

import internvl_mm
from internvl_mm.models.chat_generation import Prompt
from internvl_mm.models.chat_model import ChatModel
from internvl_mm.models.chat_prompt import IMAGE_TOKENS
from internvl_mm.models.connectors import LlavaMlp
from internvl_mm.models.convert.llava import from_llava, projector_depth, to_llava
from internvl_mm.models.hf_llava_chat import LlavaChatConfig, LlavaChatModel
from internvl_mm.preprocess.conversation import chat_template
from internvl_mm.serving.chat_inputs import open_chat
from internvl_mm.serving.chat_session import ChatSession
from internvl_mm.utils.errors import CheckpointError, ConfigError, DataError
from tests.test_models.tiny_chat import GREEDY, NORMS_300M, edit_config, pixels
from tests.test_models.tiny_sentencepiece import PIECES, write_llama_tokenizer

VISION = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=5, num_attention_heads=4, image_size=56)
LANGUAGE = dict(
    vocab_size=PIECES + 2,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=2048,
    rms_norm_eps=1e-5,
    torch_dtype='float32',
)
QLLAMA = dict(
    num_query_token=6,
    cross_attention_frequency=2,
    vocab_size=50,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=4,
    num_attention_heads=2,
    rms_norm_eps=1e-6,
)
KINDS = ('mlp2x_gelu', 'two_mlp')


def write_folder(folder: Path, kind: str = 'mlp2x_gelu', *, layer: int = -4, **settings: Any) -> Path:
    """Random weights under the published names, a config.json without vision part, and Vicuna's kind of tokenizer."""
    torch.manual_seed(0)
    glued = kind == 'two_mlp'
    vision = {**VISION, **settings.pop('vision', {})}
    config = LlavaChatConfig(
        vision_config=vision,
        qllama_config=QLLAMA if glued else None,
        mm_projector_type=kind,
        mm_vision_select_layer=layer,
        mm_vision_tower='weights/internvl_14b' if glued else 'weights/intern_vit_6b',
        image_aspect_ratio='pad',
        **{'force_image_size': 84, **LANGUAGE, **settings},
    )
    model = LlavaChatModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    model.save_pretrained(folder)
    stored = json.loads((folder / 'config.json').read_text())
    parts = {name: stored.pop(name) for name in ('vision_config', 'qllama_config')}
    # what no published folder has
    stored.pop('template')
    (folder / 'config.json').write_text(json.dumps(stored))
    (folder / 'vision_tower').mkdir()
    (folder / 'vision_tower' / 'config.json').write_text(json.dumps(parts))
    write_llama_tokenizer(folder, legacy=False)
    return folder


@pytest.fixture(scope='module')
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp('llava')
    return {kind: write_folder(root / kind, kind) for kind in KINDS}


def visual_tokens(model: LlavaChatModel, tiles: Tensor, stored: dict[str, Tensor]) -> Tensor:
    """Hidden state −4 without class token through the projector, from the tensors of the file; queries go first."""

    def mlp(tokens: Tensor, name: str) -> Tensor:
        for number in (0, 2):
            weight, bias = (
                stored[f'model.mm_projector.{name}{number}.{kind}'] for kind in ('weight', 'bias')
            )
            tokens = functional.linear(functional.gelu(tokens) if number else tokens, weight, bias)
        return tokens

    output = model.vision_model(tiles, output_hidden_states=True)
    patches = output.hidden_states[-4][:, 1:]
    if 'model.mm_projector.0.weight' in stored:
        return mlp(patches, '')
    # The queries look at the end of the tower, as InternVL-14B does by itself.
    queries = model.mlp1.query_former(output.last_hidden_state)
    return torch.cat([mlp(queries, 'mlp2.'), mlp(patches, 'mlp1.')], dim=1)


def answer_by_hand(
    model: LlavaChatModel, tokenizer: Any, tiles: Tensor, prompt: str, folder: Path
) -> list[int]:
    """Greedy ids: text apart from images, each tokenised on its own, embeddings joined."""
    embed = model.language_model.get_input_embeddings()
    visual = visual_tokens(model, tiles, load_file(folder / 'model.safetensors'))
    parts: list[Tensor] = []
    for number, text in enumerate(prompt.split('<image>')):
        if number:
            parts.append(visual[number - 1])
        ids = tokenizer(text).input_ids
        parts.append(embed(torch.tensor(ids[1:] if number else ids)))
    embeddings, new = torch.cat(parts)[None], []
    for _ in range(GREEDY['max_new_tokens']):
        new.append(int(model.language_model(inputs_embeds=embeddings).logits[0, -1].argmax()))
        if new[-1] == tokenizer.eos_token_id:
            break
        embeddings = torch.cat([embeddings, embed(torch.tensor(new[-1:]))[None]], dim=1)
    return new


@pytest.mark.parametrize('kind', KINDS)
def test_names_are_the_published_ones(folders, kind: str) -> None:
    names = set(load_file(folders[kind] / 'model.safetensors'))
    tower = 'model.vision_tower.vision_tower.'
    glued = kind == 'two_mlp'
    vision = tower + ('vision_model.' if glued else '')
    assert vision + 'encoder.layers.0.attn.qkv.weight' in names
    assert {'model.embed_tokens.weight', 'model.layers.1.self_attn.q_proj.weight', 'lm_head.weight'} <= names
    projector = {name for name in names if name.startswith('model.mm_projector.')}
    heads = ('mlp1.', 'mlp2.') if glued else ('',)
    assert projector == {
        f'model.mm_projector.{h}{n}.{w}' for h in heads for n in (0, 2) for w in ('weight', 'bias')
    }
    assert (tower + 'query_tokens' in names) is glued
    assert {name for name in names if not name.startswith(('model.', 'lm_head.'))} == set()
    ours = from_llava(names)
    assert to_llava(ours.values()) == {ours[name]: name for name in names}


@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_folders_load_strictly_and_answer_as_their_parts_do(folders, kind: str) -> None:
    folder = folders[kind]
    model = internvl_mm.load_model(folder)
    auto = AutoModel.from_pretrained(
        folder, torch_dtype=torch.float32, low_cpu_mem_usage=True, trust_remote_code=True
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True, use_fast=False)
    # 84 pixels of 14-pixel patches; positions of 56 pixels are interpolated
    assert model.num_image_token == 36 + (6 if kind == 'two_mlp' else 0)
    tiles = pixels(2, 84)
    template = chat_template('vicuna_v1')
    response, history = model.chat(tokenizer, tiles[:1], 'What is it?', GREEDY, return_history=True)
    prompt = template.render([('<image>\nWhat is it?', None)])
    ids = answer_by_hand(model, tokenizer, tiles[:1], prompt, folder)
    assert response == tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert history == [('<image>\nWhat is it?', response)]
    two = '<image> and <image>: which?'
    answers = model.batch_chat(tokenizer, tiles, ['And?', two], GREEDY, num_patches_list=[[], [1, 1]])
    ids = answer_by_hand(model, tokenizer, tiles, template.render([(two, None)]), folder)
    assert answers[1] == tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert auto.chat(tokenizer, tiles[:1], 'What is it?', GREEDY) == response


@pytest.mark.parametrize('kind', KINDS)
def test_saved_again_the_layout_and_the_bytes_are_the_same(folders, kind: str, tmp_path: Path) -> None:
    model = internvl_mm.load_model(folders[kind])
    model.save_pretrained(tmp_path)
    first, second = (load_file(path / 'model.safetensors') for path in (folders[kind], tmp_path))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    stored = json.loads((tmp_path / 'config.json').read_text())
    assert (stored['model_type'], stored['architectures']) == ('llava', ['LlavaLlamaForCausalLM'])
    # with the vision part in its config, the folder needs nothing beside it
    again = internvl_mm.load_model(tmp_path)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_sessions_and_the_terminal_read_these_folders(folders, tmp_path: Path) -> None:
    model, tokenizer, inputs = open_chat(str(folders['mlp2x_gelu']))
    assert repr(inputs.tiling) == 'PadTiling(84)'
    session = ChatSession(model, tokenizer, settings=GREEDY)
    first = session.ask('What is it?', [pixels(1, 84)])
    second = session.ask('And then?')
    assert first == model.chat(tokenizer, pixels(1, 84), 'What is it?', GREEDY)
    history = [('<image>\nWhat is it?', first)]
    assert second == model.chat(tokenizer, pixels(1, 84), 'And then?', GREEDY, history=history)
    assert session.reused > 36


def test_special_tokens_of_a_question_stay_text(folders) -> None:
    model = internvl_mm.load_model(folders['mlp2x_gelu'])
    tokenizer = AutoTokenizer.from_pretrained(folders['mlp2x_gelu'])
    encoder = model.text_encoder(tokenizer, 'Be kind.')
    ids = encoder.prompt([('<image>\nWhat is </s>?', None)], [4]).tolist()
    assert ids.count(tokenizer.eos_token_id) == 0 and ids.count(-200) == 4
    with pytest.raises(DataError, match='have 1 <image> for 0 images'):
        encoder.prompt([('<image>\nWhat?', None)])
    # the published way, for parity: the token acts
    model.published_text = True
    asked = [('<image>\nWhat is </s>?', None)]
    prompt = Prompt(asked, [1], chat_template('vicuna_v1'), 'Be kind.')
    assert model._prompt_ids(tokenizer, prompt, IMAGE_TOKENS).count(tokenizer.eos_token_id) == 1
    harmless = Prompt([('<image>\nWhat?', 'A.'), ('And?', None)], [1], chat_template('vicuna_v1'), 'Be kind.')
    published = model._prompt_ids(tokenizer, harmless, IMAGE_TOKENS)
    assert published == encoder.prompt(harmless.turns, [model.num_image_token]).tolist()
    with pytest.raises(DataError, match='has 1 <image> for 0 images'):
        model._prompt_ids(tokenizer, Prompt(asked, [], chat_template('vicuna_v1'), ''), IMAGE_TOKENS)
    # of an image that does not fit nothing is cut
    encoder.max_length, encoder.overlong = 20, 'truncate'
    with pytest.raises(DataError, match='an image block that ends at'):
        encoder.encode([('<image>\nWhat?', 'A cat.')], [30])


@pytest.mark.parametrize(('side', 'expected'), [(224, 576), (448, 1024)])
def test_pictures_have_the_published_sizes(side: int, expected: int) -> None:
    config = LlavaChatConfig(
        vision_config={**VISION, 'image_size': side}, mm_projector_type='mlp2x_gelu', **LANGUAGE
    )
    with torch.device('meta'):
        assert LlavaChatModel(config).num_image_token == expected


def test_transformers_own_llava_is_left_alone(folders) -> None:
    assert type(AutoConfig.for_model('llava')) is LlavaConfig
    assert type(AutoConfig.from_pretrained(folders['mlp2x_gelu'])) is LlavaChatConfig


def test_a_model_of_parts_takes_these_weights(folders) -> None:
    from internvl_mm.models.backbones import InternViT
    from internvl_mm.models.language.part import LanguageModel

    language = {name: value for name, value in LANGUAGE.items() if name != 'torch_dtype'}
    model = ChatModel(
        vision=InternViT(**VISION),
        connector=dict(type=LlavaMlp, depth=2),
        language_model=LanguageModel(dict(architectures=['LlamaForCausalLM'], **language)),
        template='vicuna_v1',
        select_layer=-4,
        image_size=84,
        pretrained=str(folders['mlp2x_gelu']),
    )
    model.init_weights()
    published = internvl_mm.load_model(folders['mlp2x_gelu'])
    tiles = pixels(2, 84)
    torch.testing.assert_close(model.eval().extract_feature(tiles), published.extract_feature(tiles))


def test_the_dtype_is_that_of_the_files(folders, tmp_path: Path) -> None:
    folder = tmp_path / 'half'
    shutil.copytree(folders['mlp2x_gelu'], folder)
    halves = {name: tensor.half() for name, tensor in load_file(folder / 'model.safetensors').items()}
    save_file(halves, folder / 'model.safetensors', metadata={'format': 'pt'})
    edit_config(folder, torch_dtype='float32', dtype='float32')
    assert internvl_mm.load_model(folder).dtype == torch.float16


def test_what_does_not_fit_is_told(folders, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / 'a', vision=NORMS_300M)
    internvl_mm.load_model(folder)  # a tower of the other kind of norms is read off its tensors
    weights = load_file(folder / 'model.safetensors')

    def save(**changes: Tensor) -> None:
        kept = {**weights, **{name.replace('__', '.'): tensor for name, tensor in changes.items()}}
        save_file(
            {n: t for n, t in kept.items() if t is not None}, folder / 'model.safetensors', {'format': 'pt'}
        )

    save(model__norm__weight=None)
    with pytest.raises(CheckpointError, match='1 are missing .*language_model.model.norm.weight'):
        internvl_mm.load_model(folder)
    save(model__extra__weight=torch.zeros(1))
    with pytest.raises(CheckpointError, match='1 are unknown .*extra'):
        internvl_mm.load_model(folder)
    save(other=torch.zeros(1))
    with pytest.raises(
        CheckpointError, match="'other' is not the name of a tensor of a LLaVA-style chat folder"
    ):
        internvl_mm.load_model(folder)
    save(lm_head__weight=torch.zeros(3, 32))
    with pytest.raises(CheckpointError, match='1 have another shape .*lm_head'):
        internvl_mm.load_model(folder)
    save()
    for settings, message in (
        (dict(mm_projector_type='resampler'), "mm_projector_type='resampler' is unknown"),
        (
            dict(mm_vision_select_layer=-9),
            'mm_vision_select_layer=-9: the vision tower has hidden states 0 to 5',
        ),
        (dict(template='vicunia'), "template='vicunia' is unknown"),
    ):
        stored = json.loads((folder / 'config.json').read_text())
        edit_config(folder, **settings)
        with pytest.raises(ConfigError, match=message):
            internvl_mm.load_model(folder)
        (folder / 'config.json').write_text(json.dumps(stored))
    save_file({n: t for n, t in weights.items() if 'vision_tower' not in n}, folder / 'model.safetensors')
    with pytest.raises(CheckpointError, match='a LLaVA-style folder without its vision tower'):
        internvl_mm.load_model(folder)
    edit_config(folder, **{'model_type': 'llava'})
    stored = json.loads((folder / 'config.json').read_text())
    stored.pop('mm_vision_tower')
    (folder / 'config.json').write_text(json.dumps(stored))
    with pytest.raises(CheckpointError, match="a LLaVA in transformers' own layout"):
        internvl_mm.load_model(folder)
    with pytest.raises(CheckpointError, match='is no folder'):
        LlavaChatModel.from_pretrained(tmp_path / 'gone')
    with pytest.raises(ConfigError, match='vision_config is missing'):
        LlavaChatModel(LlavaChatConfig(**LANGUAGE))
    with pytest.raises(ConfigError, match="mm_projector_type='two_mlp' needs qllama_config"):
        LlavaChatModel(LlavaChatConfig(vision_config=VISION, mm_projector_type='two_mlp', **LANGUAGE))
    assert (projector_depth('linear'), projector_depth('mlp3x_gelu')) == (1, 3)
