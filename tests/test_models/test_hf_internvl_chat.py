"""The published chat class: its parts, its loss, loading and saving in every family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoTokenizer, BitsAndBytesConfig

import internvl_mm
from internvl_mm.models import hf_internvl_chat
from internvl_mm.models.chat import token_loss
from internvl_mm.models.device_map import balanced_device_map
from internvl_mm.models.hf_internvl_chat import InternVLChatConfig, InternVLChatModel
from internvl_mm.models.language.internlm2 import from_llama, join_wqkv, split_wqkv, to_llama
from internvl_mm.utils.errors import CheckpointError, ConfigError, DataError
from tests.test_models.tiny_chat import (
    FAMILY_CASES,
    GOLDEN,
    GREEDY,
    edit_config,
    pixels,
    tiny_config,
    tiny_model,
    write_folder,
)


def same_weights(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize('case', ['chat_internlm2_tiny', 'chat_phi3_tiny', 'chat_qwen2_tiny'])
def test_a_published_folder_comes_back_with_the_same_bytes(case: str, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(
        GOLDEN / case, torch_dtype=torch.float32, low_cpu_mem_usage=True, trust_remote_code=True
    )
    model.save_pretrained(tmp_path)
    stored = load_file(GOLDEN / case / 'model.safetensors')
    assert same_weights(stored, load_file(tmp_path / 'model.safetensors'))
    settings = json.loads((tmp_path / 'config.json').read_text())
    original = json.loads((GOLDEN / case / 'config.json').read_text())
    # what readers of the time look for
    for name in ('rope_theta', 'rope_scaling'):
        assert settings['llm_config'][name] == original['llm_config'].get(name)
    for name in ('template', 'select_layer', 'ps_version', 'downsample_ratio', 'force_image_size'):
        assert settings[name] == original[name]
    assert 'auto_map' not in settings
    again = internvl_mm.load_model(tmp_path)
    assert same_weights(model.state_dict(), again.state_dict())


@pytest.mark.parametrize('architecture', FAMILY_CASES)
def test_every_family_saves_and_loads(architecture: str, tmp_path: Path) -> None:
    folder, model = write_folder(tmp_path / 'model', architecture, llm=dict(num_key_value_heads=4))
    loaded = internvl_mm.load_model(folder)
    assert same_weights(model.state_dict(), loaded.state_dict())
    ids = torch.arange(8)[None]
    torch.testing.assert_close(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert type(AutoConfig.from_pretrained(folder, trust_remote_code=True)) is InternVLChatConfig


def test_a_folders_own_code_never_runs(tmp_path: Path) -> None:
    folder, _ = write_folder(tmp_path / 'model')
    marker = tmp_path / 'ran'
    (folder / 'trap.py').write_text(f'open({str(marker)!r}, "w").close()\n')
    edit_config(
        folder, auto_map={'AutoConfig': 'trap.A', 'AutoModel': 'trap.B', 'AutoModelForCausalLM': 'trap.B'}
    )
    assert type(AutoModel.from_pretrained(folder, trust_remote_code=True)) is InternVLChatModel
    AutoTokenizer.from_pretrained(folder, trust_remote_code=True, use_fast=False)
    assert not marker.exists()


def test_weights_in_another_dtype_and_in_shards(tmp_path: Path) -> None:
    model = tiny_model().to(torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size='60KB')
    assert (tmp_path / 'model.safetensors.index.json').is_file()
    loaded = internvl_mm.load_model(tmp_path)
    assert loaded.dtype == torch.bfloat16
    assert same_weights(model.state_dict(), loaded.state_dict())
    assert internvl_mm.load_model(tmp_path, dtype='float32').dtype == torch.float32


def test_pickles_in_shards_are_read_by_our_own_reader(tmp_path: Path) -> None:
    folder, model = write_folder(tmp_path / 'model')
    tensors = list(load_file(folder / 'model.safetensors').items())
    (folder / 'model.safetensors').unlink()
    weight_map = {}
    for number, part in enumerate((tensors[:9], tensors[9:]), 1):
        name = f'pytorch_model-0000{number}-of-00002.bin'
        torch.save(dict(part), folder / name)
        weight_map |= dict.fromkeys(dict(part), name)
    (folder / 'pytorch_model.bin.index.json').write_text(json.dumps(dict(weight_map=weight_map)))
    assert same_weights(internvl_mm.load_model(folder).state_dict(), model.state_dict())


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    folder, _ = write_folder(tmp_path / 'model')
    tensors = load_file(folder / 'model.safetensors')
    kept = {name: tensor for name, tensor in tensors.items() if name != 'mlp1.3.bias'}
    save_file(
        {**kept, 'extra.weight': torch.ones(1)}, folder / 'model.safetensors', metadata={'format': 'pt'}
    )
    with pytest.raises(CheckpointError, match=r'1 tensors are missing: mlp1\.3\.bias'):
        internvl_mm.load_model(folder)
    save_file(
        {**tensors, 'extra.weight': torch.ones(1)}, folder / 'model.safetensors', metadata={'format': 'pt'}
    )
    with pytest.raises(CheckpointError, match=r'1 tensors are unknown: extra\.weight'):
        internvl_mm.load_model(folder)
    save_file(
        {**tensors, 'mlp1.3.bias': torch.ones(5)}, folder / 'model.safetensors', metadata={'format': 'pt'}
    )
    with pytest.raises((CheckpointError, RuntimeError), match=r'mlp1\.3\.bias|mismatch'):
        internvl_mm.load_model(folder)


@pytest.mark.parametrize(('heads', 'kv_heads'), [(4, 4), (4, 2), (6, 2), (4, 1)])
def test_wqkv_splits_by_key_value_head_and_joins_back(heads: int, kv_heads: int) -> None:
    size, group = 3, heads // kv_heads
    rows = []  # every row says what it is: (kind, head, row of the head)
    for kv in range(kv_heads):
        rows += [(0, kv * group + q, r) for q in range(group) for r in range(size)]
        rows += [(1, kv, r) for r in range(size)] + [(2, kv, r) for r in range(size)]
    joint = torch.tensor(rows)
    parts = split_wqkv(joint, heads=heads, kv_heads=kv_heads)
    for kind, (part, count) in enumerate(zip(parts, (heads, kv_heads, kv_heads), strict=True)):
        assert part.tolist() == [[kind, head, row] for head in range(count) for row in range(size)]
    assert torch.equal(join_wqkv(*parts, heads=heads, kv_heads=kv_heads), joint)


def test_our_own_renaming_of_internlm2_is_transformers_one(tmp_path: Path) -> None:
    folder, model = write_folder(tmp_path / 'model', 'InternLM2ForCausalLM')
    stored = load_file(folder / 'model.safetensors')
    prefix = 'language_model.'
    language = {
        name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)
    }
    assert 'model.layers.0.attention.wqkv.weight' in language and 'output.weight' in language
    llama = to_llama(language, heads=4, kv_heads=2)
    assert same_weights(llama, model.language_model.state_dict())
    assert same_weights(from_llama(llama, heads=4, kv_heads=2), language)


def test_features_are_the_selected_state_through_the_projector() -> None:
    for layer, index in ((-1, 3), (-2, 2), (1, 1), (0, 0)):
        model = tiny_model(select_layer=layer)
        states = model.vision_model(pixels(), output_hidden_states=True).hidden_states
        torch.testing.assert_close(model.extract_feature(pixels()), model.mlp1(states[index]))
    with pytest.raises(ConfigError, match='select_layer=4: the vision tower has 3 blocks'):
        tiny_model(select_layer=4)


@pytest.mark.parametrize('ratio', [1.0, 0.5, 0.25])
def test_tokens_per_tile_follow_size_and_ratio(ratio: float) -> None:
    model = tiny_model(downsample_ratio=ratio, force_image_size=112)
    assert model.num_image_token == int((112 // 14) ** 2 * ratio**2)
    assert model.extract_feature(pixels(size=112)).shape == (3, model.num_image_token, 32)


def test_both_orders_of_the_shuffle_give_the_same_tokens_in_another_order() -> None:
    first, second = (tiny_model(ps_version=version, force_image_size=112) for version in ('v1', 'v2'))
    one, two = (model.extract_feature(pixels(size=112)).unflatten(1, (4, 4)) for model in (first, second))
    torch.testing.assert_close(one, two.transpose(1, 2))
    assert not torch.allclose(one, two)


def sample(model: InternVLChatModel, tiles: int) -> torch.Tensor:
    model.img_context_token_id = 3
    return torch.tensor([[1, 10, *[3] * (4 * tiles), 11, 12, 13]])


def test_dummy_tiles_do_not_change_the_loss_but_train_nothing_wrongly() -> None:
    model = tiny_model()
    ids = sample(model, 2)
    labels = torch.where(ids > 10, ids, -100)
    plain = model(pixel_values=pixels(2), input_ids=ids, labels=labels)
    flags = torch.tensor([[1], [0], [1]])
    tiles = torch.stack([pixels(2)[0], pixels(3)[2], pixels(2)[1]])
    flagged = model(pixel_values=tiles, input_ids=ids, labels=labels, image_flags=flags)
    torch.testing.assert_close(flagged.loss, plain.loss)
    torch.testing.assert_close(plain.loss, token_loss(plain.logits, labels))
    text = torch.tensor([[1, 10, 11, 12]])
    only_text = model(pixel_values=pixels(1), input_ids=text, labels=text, image_flags=torch.tensor([0]))
    torch.testing.assert_close(only_text.loss, model(input_ids=text, labels=text).loss)
    only_text.loss.backward()
    grads = [parameter.grad for parameter in model.vision_model.parameters()]
    assert all(grad is not None and not grad.any() for grad in grads), 'a gradient path, of value zero'


def test_weights_of_tokens_make_a_weighted_mean() -> None:
    logits, labels = torch.randn(2, 5, 7), torch.tensor([[1, 2, -100, 3, 4], [0, -100, 5, 6, 1]])
    equal = token_loss(logits, labels, torch.full((2, 5), 0.3))
    torch.testing.assert_close(equal, token_loss(logits, labels))
    first_only = torch.tensor([[1.0], [0.0]]).expand(2, 5)
    torch.testing.assert_close(token_loss(logits, labels, first_only), token_loss(logits[:1], labels[:1]))


def test_tiles_that_do_not_match_the_text_are_an_error_not_a_zero_loss() -> None:
    model = tiny_model()
    with pytest.raises(
        DataError, match=r'8 image placeholders, the 3 tiles have 12 visual tokens \(4 each\)'
    ):
        model(pixel_values=pixels(3), input_ids=sample(model, 2))
    model.img_context_token_id = None
    with pytest.raises(DataError, match='img_context_token_id is not set'):
        model(pixel_values=pixels(3), input_ids=torch.arange(5)[None])


def test_embeddings_are_never_tied() -> None:
    model = tiny_model(llm=dict(tie_word_embeddings=True))
    assert not model.config.llm_config.tie_word_embeddings
    assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight


def test_system_message_of_the_config_comes_first() -> None:
    assert tiny_model().system_message == tiny_model().conv_template.system_message
    assert tiny_model(system_message='Answer the questions.').system_message == 'Answer the questions.'
    assert tiny_model(system_message='').system_message == ''


def test_unknown_language_models_and_templates_are_told() -> None:
    with pytest.raises(ConfigError, match="'Qwen22ForCausalLM'; known are .*Did you mean 'Qwen2ForCausalLM'"):
        InternVLChatConfig(llm_config=dict(architectures=['Qwen22ForCausalLM']))
    with pytest.raises(ConfigError, match="template='Hermes2' is unknown"):
        tiny_model(template='Hermes2')
    model = tiny_model(template=None)
    with pytest.raises(ConfigError, match='this model has no template'):
        model.chat(None, None, 'Hello', GREEDY)


def test_short_arguments_for_quantised_loading_become_its_config(monkeypatch) -> None:
    asked = []

    def published(cls, path, *args, **kwargs):
        asked.append(kwargs)

    monkeypatch.setattr(hf_internvl_chat.PreTrainedModel, 'from_pretrained', classmethod(published))
    InternVLChatModel.from_pretrained('x', load_in_8bit=True, device_map='auto')
    InternVLChatModel.from_pretrained('x', load_in_4bit=True)
    eight, four = (kwargs['quantization_config'] for kwargs in asked)
    assert isinstance(eight, BitsAndBytesConfig) and eight.load_in_8bit and not eight.load_in_4bit
    assert four.load_in_4bit and not four.load_in_8bit


@pytest.mark.parametrize('count', [1, 2, 3, 5])
def test_device_map_keeps_vision_and_both_ends_together_and_balances(count: int) -> None:
    with torch.device('meta'):
        model = InternVLChatModel(tiny_config(llm=dict(num_hidden_layers=24)))
    placed = balanced_device_map(model, range(count))
    ends = {name: device for name, device in placed.items() if '.layers.' not in name}
    layers = [placed[f'language_model.model.layers.{index}'] for index in range(24)]
    assert set(ends.values()) == {0} and layers[-1] == 0
    assert layers[:-1] == sorted(layers[:-1])
    assert set(placed.values()) == set(range(count))
    if count > 1:
        others = [layers.count(device) for device in range(1, count)]
        assert max(others) - min(others) <= 1
    covered = {name for name, _ in model.named_parameters() if any(name.startswith(key) for key in placed)}
    assert covered == {name for name, _ in model.named_parameters()}
    with pytest.raises(ConfigError, match='needs at least one device'):
        balanced_device_map(model, [])


def test_auto_on_several_devices_uses_the_balanced_map(monkeypatch, tmp_path: Path) -> None:
    folder, _ = write_folder(tmp_path / 'model')
    asked = []
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(
        hf_internvl_chat.PreTrainedModel,
        'from_pretrained',
        classmethod(lambda cls, path, *args, **kwargs: asked.append(kwargs['device_map'])),
    )
    InternVLChatModel.from_pretrained(folder, device_map='auto')
    InternVLChatModel.from_pretrained(folder, device_map={'language_model.output': 1, 'mlp1': 0})
    assert asked[0]['vision_model'] == 0 and 1 in asked[0].values()
    assert asked[1] == {'language_model.lm_head': 1, 'mlp1': 0}


def test_a_device_map_of_the_time_places_internlm2(tmp_path: Path) -> None:
    folder, model = write_folder(tmp_path / 'model', 'InternLM2ForCausalLM')
    names = ['vision_model', 'mlp1', 'language_model.model.tok_embeddings', 'language_model.model.norm']
    names += ['language_model.output', *(f'language_model.model.layers.{index}' for index in range(2))]
    loaded = AutoModel.from_pretrained(folder, device_map=dict.fromkeys(names, 'cpu'))
    assert same_weights(model.state_dict(), loaded.state_dict())


def test_gradients_are_the_same_when_activations_are_recomputed() -> None:
    grads = []
    for recompute in (False, True):
        model = tiny_model().train()
        if recompute:
            model.gradient_checkpointing_enable(dict(use_reentrant=False))
        ids = sample(model, 3)
        model(pixel_values=pixels(), input_ids=ids, labels=ids).loss.backward()
        grads.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    torch.testing.assert_close(grads[0], grads[1])
