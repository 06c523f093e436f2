"""Chat models from configs: parts, weights to start from, and the way to a published folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import internvl_mm
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.chat_model import ChatModel
from internvl_mm.models.connectors import LlavaMlp, PixelShuffleMlp, QLlamaQueries, QueryGlue
from internvl_mm.models.language.part import LanguageModel, load_language
from internvl_mm.utils.errors import CheckpointError, ConfigError
from tests.test_models.tiny_chat import (
    FAMILY_CASES,
    GREEDY,
    LANGUAGE,
    NORMS_300M,
    VISION,
    pixels,
    tokenizer_of,
    write_folder,
)

TOWER = dict(type=InternViT, **VISION, **NORMS_300M)


def settings(architecture: str = 'Qwen2ForCausalLM', **changes) -> dict:
    language = dict(type=LanguageModel, llm_config=dict(LANGUAGE, architectures=[architecture]))
    return (
        dict(
            vision=dict(TOWER),
            connector=dict(type=PixelShuffleMlp),
            language_model=language,
            template=FAMILY_CASES[architecture][0],
        )
        | changes
    )


@pytest.mark.parametrize('architecture', FAMILY_CASES)
def test_a_published_folder_starts_a_model_and_comes_out_of_it(architecture: str, tmp_path: Path) -> None:
    folder, original = write_folder(tmp_path / 'a', architecture)
    model = ChatModel(**settings(architecture, pretrained=str(folder)))
    model.init_weights()
    model.eval()
    tokenizer = tokenizer_of(architecture)
    question = (tokenizer, pixels(), 'What is it?', GREEDY)
    assert model.chat(*question) == original.chat(*question)
    published = model.to_published(dynamic_image_size=True)
    assert published.mlp1 is model.mlp1 and published.chat(*question) == original.chat(*question)
    published.save_pretrained(tmp_path / 'b')
    first, second = (load_file(tmp_path / name / 'model.safetensors') for name in 'ab')
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    again = internvl_mm.load_model(tmp_path / 'b')
    assert again.config.dynamic_image_size and again.chat(*question) == original.chat(*question)


def test_parts_start_from_weights_of_their_own(tmp_path: Path) -> None:
    folder, original = write_folder(tmp_path / 'a')
    original.language_model.save_pretrained(tmp_path / 'llm')
    original.vision_model.save_pretrained(tmp_path / 'vit')
    save_file(original.mlp1.state_dict(), tmp_path / 'mlp.safetensors')
    parts = settings(
        vision=dict(TOWER, pretrained=str(tmp_path / 'vit')),
        pretrained_connector=str(tmp_path / 'mlp.safetensors'),
    )
    parts['language_model']['pretrained'] = str(tmp_path / 'llm')
    model = ChatModel(**parts)
    model.init_weights()
    state = original.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert folder.is_dir()


def test_a_larger_vocabulary_gets_mean_output_rows_and_drawn_input_rows(tmp_path: Path) -> None:
    _, original = write_folder(tmp_path / 'a', 'InternLM2ForCausalLM')
    original.language_model.save_pretrained(tmp_path / 'llm')
    config = dict(LANGUAGE, architectures=['InternLM2ForCausalLM'], vocab_size=609)
    language = LanguageModel(config, pretrained=str(tmp_path / 'llm'))
    drawn = language.get_input_embeddings().weight[600:].clone()
    load_language(language)
    output, old = language.lm_head.weight, original.language_model.lm_head.weight
    assert torch.equal(output[:600], old)
    torch.testing.assert_close(output[600:], old.mean(0, keepdim=True).expand(9, -1))
    assert torch.equal(language.get_input_embeddings().weight[600:], drawn)


def test_positions_are_those_of_the_folder(tmp_path: Path) -> None:
    rope = dict(rope_scaling=dict(type='dynamic', factor=3.0), rope_theta=5e5)
    _, original = write_folder(tmp_path / 'a', llm=rope)
    original.language_model.save_pretrained(tmp_path / 'llm')
    config = dict(LANGUAGE, architectures=['Qwen2ForCausalLM'])
    language = LanguageModel(config, pretrained=str(tmp_path / 'llm'))
    assert language.config.rope_parameters['rope_type'] == 'dynamic'
    assert language.config.rope_parameters['rope_theta'] == 5e5


def test_a_tied_language_model_gets_an_output_matrix_of_its_own(tmp_path: Path) -> None:
    _, original = write_folder(tmp_path / 'a')
    tensors = original.language_model.state_dict()
    del tensors['lm_head.weight']
    (tmp_path / 'llm').mkdir()
    save_file(tensors, tmp_path / 'llm' / 'model.safetensors')
    language = LanguageModel(
        dict(LANGUAGE, architectures=['Qwen2ForCausalLM']), pretrained=str(tmp_path / 'llm')
    )
    load_language(language)
    assert torch.equal(language.lm_head.weight, language.get_input_embeddings().weight)
    assert language.lm_head.weight is not language.get_input_embeddings().weight
    config = dict(LANGUAGE, architectures=['Qwen2ForCausalLM'])
    assert LanguageModel.check_config(config) == []
    [problem] = LanguageModel.check_config(dict(config, tie_word_embeddings=True))
    assert 'tie_word_embeddings=True has no effect' in problem


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    folder, original = write_folder(tmp_path / 'a')
    with pytest.raises(CheckpointError, match='does not fit this model: .* are missing'):
        ChatModel(**settings('Phi3ForCausalLM', pretrained=str(folder))).init_weights()
    original.language_model.save_pretrained(tmp_path / 'llm')
    language = LanguageModel(
        dict(LANGUAGE, architectures=['LlamaForCausalLM']), pretrained=str(tmp_path / 'llm')
    )
    with pytest.raises(CheckpointError, match=r'does not fit this language model: .* unknown .*bias'):
        load_language(language)


def test_llava_style_and_query_glue_are_configs_of_the_same_parts() -> None:
    qllama = dict(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    former = dict(type=QLlamaQueries, num_queries=5, qllama=qllama)
    for connector, tokens in (
        (dict(type=LlavaMlp, depth=2), 36),
        (dict(type=QueryGlue, query_former=former), 41),
    ):
        model = ChatModel(**settings(connector=connector, select_layer=-2, image_size=84)).eval()
        assert model.num_image_token == tokens
        assert isinstance(model.chat(tokenizer_of(), pixels(2, 84), 'What?', GREEDY), str)
        with pytest.raises(ConfigError, match='has no place in the published layout'):
            model.to_published()


def test_settings_that_cannot_be_are_told() -> None:
    with pytest.raises(ConfigError, match='select_layer=7: the vision tower has hidden states 0 to 3'):
        ChatModel(**settings(select_layer=7))
    with pytest.raises(ConfigError, match="template='nothing' is unknown"):
        ChatModel(**settings(template='nothing'))
