"""Chat models between layouts: names, bytes, logits and answers, against transformers' own InternVL."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, InternVLForConditionalGeneration

import internvl_mm
from internvl_mm.models.convert.chat_native import native_names, to_native
from internvl_mm.models.convert.chat_report import convert_chat
from internvl_mm.models.convert.lora import merge_published_lora
from internvl_mm.utils.errors import CheckpointError, ConfigError
from tests.test_models.tiny_chat import (
    FAMILY_CASES,
    GOLDEN,
    GREEDY,
    edit_config,
    pixels,
    tiny_model,
    tokenizer_of,
    write_folder,
)
from tools.convert import main


@pytest.mark.parametrize('architecture', FAMILY_CASES)
@pytest.mark.parametrize('big', [False, True])
def test_logits_and_answers_are_those_of_transformers_own_class(architecture: str, big: bool) -> None:
    vision = dict(norm_type='rms_norm', qk_normalization=True, qkv_bias=False) if big else {}
    model, tokenizer = tiny_model(architecture, vision=vision), tokenizer_of(architecture)
    context = tokenizer.convert_tokens_to_ids('<IMG_CONTEXT>')
    model.img_context_token_id = context
    native = to_native(model, context)
    words = '<|im_start|>user\nWhat is it?'
    block = '<img>' + '<IMG_CONTEXT>' * (3 * model.num_image_token) + '</img>'
    inputs = dict(tokenizer(block + words, return_tensors='pt'), pixel_values=pixels())
    inputs.pop('token_type_ids', None)
    with torch.no_grad():
        ours, theirs = model(**inputs).logits, native(**inputs).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    settings = dict(GREEDY, pad_token_id=0, eos_token_id=599)
    new = native.generate(**inputs, **settings)[:, inputs['input_ids'].shape[1] :]
    mine = model.generate(**inputs, **settings)
    assert tokenizer.batch_decode(mine) == tokenizer.batch_decode(new)


@pytest.mark.parametrize('architecture', FAMILY_CASES)
def test_there_and_back_every_byte_is_the_same(architecture: str, tmp_path: Path) -> None:
    folder, _ = write_folder(tmp_path / 'published', architecture, system_message='Be kind.')
    there = convert_chat(folder, tmp_path / 'native', 'chat-native')
    back = convert_chat(tmp_path / 'native', tmp_path / 'back', 'chat')
    assert there.exact and back.exact
    first, second = (load_file(tmp_path / name / 'model.safetensors') for name in ('published', 'back'))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    # every name once, on both sides
    written = [name for names in there.renamed.values() for name in names]
    native = InternVLForConditionalGeneration.from_pretrained(tmp_path / 'native')
    assert sorted(written) == sorted(native.state_dict()) and len(set(written)) == len(written)
    model = internvl_mm.load_model(tmp_path / 'back')
    assert (model.template, model.system_message) == (FAMILY_CASES[architecture][0], 'Be kind.')
    assert model.config.llm_config.architectures == [architecture]
    question = ('<image>\nWhat?', GREEDY)
    tokenizers = [AutoTokenizer.from_pretrained(tmp_path / name) for name in ('published', 'native', 'back')]
    answers = {model.chat(tokenizer, pixels(), *question) for tokenizer in tokenizers}
    assert len(answers) == 1
    named = tokenizers[1]
    assert (named.start_image_token, named.context_image_token) == ('<img>', '<IMG_CONTEXT>')


@pytest.mark.parametrize('architecture', ['InternLM2ForCausalLM', 'Phi3ForCausalLM'])
def test_there_and_back_in_a_dtype_the_config_does_not_say(architecture: str, tmp_path: Path) -> None:
    folder, _ = write_folder(tmp_path / 'published', architecture)
    cast = {name: tensor.bfloat16() for name, tensor in load_file(folder / 'model.safetensors').items()}
    save_file(cast, folder / 'model.safetensors', metadata={'format': 'pt'})
    edit_config(folder, torch_dtype='float32', dtype='float32')
    assert internvl_mm.load_model(folder).dtype == torch.bfloat16
    assert convert_chat(folder, tmp_path / 'native', 'chat-native').exact
    edit_config(tmp_path / 'native', torch_dtype='float32', dtype='float32')
    assert convert_chat(tmp_path / 'native', tmp_path / 'back', 'chat').exact
    back = load_file(tmp_path / 'back' / 'model.safetensors')
    assert {tensor.dtype for tensor in back.values()} == {torch.bfloat16}
    assert all(torch.equal(tensor, cast[name]) for name, tensor in back.items())


def test_tables_that_no_model_reads_have_no_say_in_its_dtype(tmp_path: Path) -> None:
    folder, _ = write_folder(tmp_path / 'published', 'LlamaForCausalLM')
    weights = {name: tensor.bfloat16() for name, tensor in load_file(folder / 'model.safetensors').items()}
    weights['language_model.model.layers.0.self_attn.rotary_emb.inv_freq'] = torch.ones(4)
    save_file(weights, folder / 'model.safetensors', metadata={'format': 'pt'})
    assert internvl_mm.load_model(folder).dtype == torch.bfloat16


def test_of_several_dtypes_in_a_folder_no_value_is_rounded(tmp_path: Path) -> None:
    folder, _ = write_folder(tmp_path / 'mixed', 'InternLM2ForCausalLM')
    mixed = {
        name: tensor if name.startswith('mlp1') else tensor.bfloat16()
        for name, tensor in load_file(folder / 'model.safetensors').items()
    }
    save_file(mixed, folder / 'model.safetensors', metadata={'format': 'pt'})
    edit_config(folder, torch_dtype='bfloat16', dtype='bfloat16')
    model = internvl_mm.load_model(folder)
    assert torch.equal(model.mlp1.state_dict()['1.weight'], mixed['mlp1.1.weight'])
    assert convert_chat(folder, tmp_path / 'again', 'chat').exact
    again = load_file(tmp_path / 'again' / 'model.safetensors')
    assert all(torch.equal(tensor, mixed[name].float()) for name, tensor in again.items())


def test_a_model_transformers_cannot_express_is_refused() -> None:
    with pytest.raises(CheckpointError, match="ps_version='v1': transformers' own class knows .* 'v2' alone"):
        to_native(tiny_model(ps_version='v1'), 3)
    with pytest.raises(
        CheckpointError, match="'head.weight' is not the name of a tensor of a published chat model"
    ):
        native_names('head.weight')


def add_adapters(folder: Path, rank: int = 2) -> dict[str, torch.Tensor]:
    """Rewrite a folder as the published trainer saves it with adapters; returns the merged tensors."""
    plain, drawn = load_file(folder / 'model.safetensors'), torch.Generator().manual_seed(0)
    stored, merged = {}, dict(plain)
    for name, tensor in plain.items():
        adapted = name.endswith(('attn.qkv.weight', 'attention.wqkv.weight', 'self_attn.q_proj.weight'))
        part, _, tail = name.partition('.')
        wrapped = f'{part}.base_model.model.{tail}' if part != 'mlp1' else name
        if not adapted:
            stored[wrapped] = tensor
            continue
        base = wrapped.removesuffix('.weight')
        down = torch.randn(rank, tensor.shape[1], generator=drawn)
        up = torch.randn(tensor.shape[0], rank, generator=drawn)
        stored[f'{base}.base_layer.weight'] = tensor
        stored[f'{base}.lora_A.default.weight'], stored[f'{base}.lora_B.default.weight'] = down, up
        if wrapped.replace('.weight', '.bias') in stored:
            stored[f'{base}.base_layer.bias'] = stored.pop(f'{base}.bias')
        merged[name] = tensor + 2 * up @ down
    save_file(stored, folder / 'model.safetensors', metadata={'format': 'pt'})
    edit_config(folder, use_llm_lora=rank, use_backbone_lora=rank)
    return merged


@pytest.mark.parametrize('architecture', ['Qwen2ForCausalLM', 'InternLM2ForCausalLM'])
def test_adapters_are_merged_as_peft_would(architecture: str, tmp_path: Path) -> None:
    folder, _ = write_folder(tmp_path / 'model', architecture)
    merged = add_adapters(folder)
    loaded = AutoModel.from_pretrained(folder)
    assert loaded.config.use_llm_lora == loaded.config.use_backbone_lora == 0
    strict = internvl_mm.load_model(folder).state_dict()
    assert all(torch.equal(tensor, strict[name]) for name, tensor in loaded.state_dict().items())
    with pytest.raises(CheckpointError, match='has adapters beside its weights'):
        type(loaded)(type(loaded.config).from_pretrained(folder))
    conversion = convert_chat(folder, tmp_path / 'merged', 'chat')
    assert conversion.exact and conversion.merged == dict(backbone=2, llm=2)
    written = load_file(tmp_path / 'merged' / 'model.safetensors')
    assert written.keys() == merged.keys()
    for name in merged:
        torch.testing.assert_close(written[name], merged[name])
    settings = json.loads((tmp_path / 'merged' / 'config.json').read_text())
    assert settings['use_llm_lora'] == settings['use_backbone_lora'] == 0


def test_adapters_that_do_not_fit_are_told() -> None:
    weights = {
        'language_model.base_model.model.q.base_layer.weight': torch.zeros(4, 3),
        'language_model.base_model.model.q.lora_A.default.weight': torch.zeros(2, 3),
        'language_model.base_model.model.q.lora_B.default.weight': torch.zeros(4, 2),
    }
    with pytest.raises(CheckpointError, match='has rank 2, config.json says 8'):
        merge_published_lora(weights, dict(language_model=8))
    half = {name: tensor for name, tensor in weights.items() if 'lora_B' not in name}
    with pytest.raises(CheckpointError, match='half an adapter cannot be merged'):
        merge_published_lora(half, dict(language_model=2))
    base = {name: tensor for name, tensor in weights.items() if 'base_layer' not in name}
    with pytest.raises(CheckpointError, match='adapts a layer that is not in the checkpoint'):
        merge_published_lora(base, dict(language_model=2))


def test_parts_are_split_out(tmp_path: Path) -> None:
    folder, model = write_folder(tmp_path / 'model', 'InternLM2ForCausalLM')
    assert convert_chat(folder, tmp_path / 'mlp.safetensors', 'projector').exact
    projector = load_file(tmp_path / 'mlp.safetensors')
    assert projector.keys() == model.mlp1.state_dict().keys()
    assert convert_chat(folder, tmp_path / 'llm', 'language').exact
    language = load_file(tmp_path / 'llm' / 'model.safetensors')
    assert 'model.layers.0.attention.wqkv.weight' in language
    assert main([str(folder), str(tmp_path / 'vit'), '--to', 'hf']) == 0
    assert internvl_mm.load_model(tmp_path / 'vit').config.hidden_size == 32


def changed_folder(folder: Path, change: Callable[[str, Tensor], Tensor], **settings: Any) -> Path:
    """A model whose tensors are changed one by one."""
    write_folder(folder, 'Qwen2ForCausalLM')
    tensors = load_file(folder / 'model.safetensors').items()
    save_file(
        {name: change(name, value) for name, value in tensors}, folder / 'model.safetensors', {'format': 'pt'}
    )
    edit_config(folder, **settings)
    return folder


def test_doubles_come_back_as_they_were(tmp_path: Path) -> None:
    source = changed_folder(tmp_path / 'source', lambda _, value: value.double() + 1e-12)
    assert convert_chat(source, tmp_path / 'out', 'chat').exact
    first, second = (load_file(tmp_path / name / 'model.safetensors') for name in ('source', 'out'))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_logits_are_compared_with_their_own_size(tmp_path: Path) -> None:
    source = changed_folder(
        tmp_path / 'source', lambda name, value: value * (1e4 if 'lm_head' in name else 1)
    )
    conversion = convert_chat(source, tmp_path / 'out', 'chat-native')
    assert conversion.exact and conversion.scale > 1e3


@pytest.mark.parametrize('layout', ['chat', 'chat-native', 'projector', 'language'])
def test_targets_are_refused_before_anything_is_read(layout: str, tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    (tmp_path / 'link.safetensors').symlink_to(tmp_path / 'nowhere')
    wrong = 'x' if layout == 'projector' else 'x.safetensors'
    for name, message in (
        ('file', 'exists: give a new name'),
        ('link.safetensors', 'exists: give a new name'),
        (wrong, f'the {layout} layout is a'),
    ):
        # a source that does not exist would be told otherwise
        with pytest.raises(CheckpointError, match=message):
            convert_chat(tmp_path / 'no source', tmp_path / name, layout)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_is_incomplete_is_told(tmp_path: Path) -> None:
    source = changed_folder(
        tmp_path / 'shape', lambda name, value: value[:3].clone() if name == 'mlp1.1.bias' else value
    )
    with pytest.raises(
        CheckpointError, match=r'1 tensors have another shape than config.json says, such as mlp1.1'
    ):
        convert_chat(source, tmp_path / 'out', 'chat')
    with pytest.raises(CheckpointError, match='out/x cannot be written'):
        (tmp_path / 'out').touch()
        convert_chat(
            changed_folder(tmp_path / 'whole', lambda _, value: value), tmp_path / 'out' / 'x', 'chat'
        )
    (tmp_path / 'whole' / 'tokenizer.json').write_text('{"cut')
    with pytest.raises(ConfigError, match='whole.* cannot be loaded'):
        convert_chat(tmp_path / 'whole', tmp_path / 'new', 'chat-native')
    # without sizes transformers builds a model of 7 billion parameters first
    edit_config(tmp_path / 'whole', llm_config={})
    with pytest.raises(CheckpointError, match=r'config.json has llm_config=\{\}: it is incomplete'):
        convert_chat(tmp_path / 'whole', tmp_path / 'new', 'chat')


def test_the_door_reports_and_mistakes_exit_with_status_2(tmp_path: Path, capsys) -> None:
    source = GOLDEN / 'chat_phi3_tiny'
    assert main([str(source), str(tmp_path / 'native'), '--to', 'chat-native']) == 0
    shown = capsys.readouterr().out
    assert 'read back the same yes' in shown and 'model.multi_modal_projector.linear_2.weight' in shown
    assert 'adapters merged    none' in shown and 'tokenizer.json' in shown
    assert main([str(source), str(tmp_path / 'native'), '--to', 'chat']) == 2
    assert 'exists: give a new name' in capsys.readouterr().err
    assert main([str(source), str(tmp_path / 'other'), '--to', 'chat-native', '--separate']) == 2
    assert '--separate is for SRC a training run' in capsys.readouterr().err
    for layout in ('chat', 'safetensors'):
        assert main([str(source), str(tmp_path / 'other'), '--to', layout, '--num-heads', '4']) == 2
        assert '--num-heads is for the layouts of the ViT alone' in capsys.readouterr().err
    assert main([str(GOLDEN / 'vit_300m_tiny'), str(tmp_path / 'x'), '--to', 'chat']) == 2
    assert 'holds no chat model' in capsys.readouterr().err
