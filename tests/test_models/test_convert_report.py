"""Conversions account for every name, give back every byte, and compare outputs with the layout's own library."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from internvl_mm.models.convert.report import convert, print_report
from internvl_mm.utils.errors import CheckpointError
from tools.convert import main as convert_door

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'


@pytest.mark.parametrize(
    ('case', 'layout'),
    [('vit_300m_tiny', name) for name in ('hf', 'pth', 'timm', 'native')]
    + [('vit_6b_tiny', name) for name in ('hf', 'pth', 'native')],
)
def test_conversion_there_and_back_gives_the_same_file(tmp_path: Path, case: str, layout: str) -> None:
    there = tmp_path / ('there.pth' if layout == 'pth' else 'there')
    conversion = convert(GOLDEN / case, there, layout)
    assert conversion.exact and not conversion.changed
    assert conversion.difference < 1e-5 < 1 < conversion.scale
    assert len(conversion.renamed) == len(load_file(GOLDEN / case / 'model.safetensors'))
    assert convert(there, tmp_path / 'back', 'hf', num_heads=4).exact
    original = (GOLDEN / case / 'model.safetensors').read_bytes()
    assert (tmp_path / 'back' / 'model.safetensors').read_bytes() == original


def test_conversion_keeps_bfloat16(tmp_path: Path) -> None:
    source = tmp_path / 'source'
    shutil.copytree(GOLDEN / 'vit_6b_tiny', source)
    halved = {name: t.bfloat16() for name, t in load_file(source / 'model.safetensors').items()}
    save_file(halved, source / 'model.safetensors', metadata={'format': 'pt'})
    assert convert(source, tmp_path / 'native', 'native').exact
    written = load_file(tmp_path / 'native' / 'model.safetensors')
    assert {tensor.dtype for tensor in written.values()} == {torch.bfloat16}


def test_conversion_of_the_vit_inside_a_chat_checkpoint(tmp_path: Path, capsys) -> None:
    chat = tmp_path / 'chat'
    chat.mkdir()
    vision = json.loads((GOLDEN / 'vit_300m_tiny' / 'config.json').read_text())
    (chat / 'config.json').write_text(json.dumps({'model_type': 'internvl_chat', 'vision_config': vision}))
    tensors = load_file(GOLDEN / 'vit_300m_tiny' / 'model.safetensors')
    whole = {f'vision_model.{name}': tensor for name, tensor in tensors.items()}
    save_file({**whole, 'mlp1.0.weight': torch.ones(2)}, chat / 'model.safetensors')
    conversion = convert(chat, tmp_path / 'out', 'hf')
    assert conversion.exact
    print_report(conversion, tmp_path / 'out')
    shown = capsys.readouterr().out
    assert "under 'vision_model.', 3 blocks" in shown
    assert 'mlp1.{i}.weight' in shown
    assert 'encoder.layers.{i}.attn.qkv.bias' in shown
    assert 'read back the same yes' in shown


def test_the_door_says_what_is_wrong_and_leaves_nothing_behind(tmp_path: Path, capsys) -> None:
    source = str(GOLDEN / 'vit_6b_tiny')
    assert convert_door([source, str(tmp_path / 'out'), '--to', 'timm']) == 2
    assert "a 6B model cannot be written as 'timm'" in ' '.join(capsys.readouterr().err.split())
    assert convert_door([source, str(tmp_path / 'out'), '--to', 'pth']) == 2
    assert 'the pth layout is a file ending in .pth' in ' '.join(capsys.readouterr().err.split())
    assert convert_door([source, str(tmp_path / 'out.pth'), '--to', 'hf']) == 2
    assert 'the hf layout is a folder' in ' '.join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []
    assert convert_door([source, str(tmp_path / 'out.pth'), '--to', 'pth']) == 0
    assert convert_door([source, str(tmp_path / 'out.pth'), '--to', 'pth']) == 2
    assert 'nothing is overwritten' in ' '.join(capsys.readouterr().err.split())
    assert convert_door([str(tmp_path / 'out.pth'), str(tmp_path / 'back'), '--to', 'hf']) == 2
    assert 'give it with --num-heads' in ' '.join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ['out.pth']


def test_a_target_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(CheckpointError, match='cannot be written'):
        convert(GOLDEN / 'vit_6b_tiny', tmp_path / 'file' / 'out', 'hf')


def test_a_config_that_contradicts_the_tensors_is_refused(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / 'vit_6b_tiny', tmp_path / 'source')
    config = json.loads((tmp_path / 'source' / 'config.json').read_text())
    (tmp_path / 'source' / 'config.json').write_text(json.dumps({**config, 'num_hidden_layers': 4}))
    with pytest.raises(CheckpointError, match='num_hidden_layers is 4 there, 3 in the tensors'):
        convert(tmp_path / 'source', tmp_path / 'out', 'hf')


@pytest.mark.parametrize(
    ('heads', 'message'), [(2, 'says num_attention_heads=4'), (0, 'says num_attention_heads=4')]
)
def test_heads_that_contradict_the_config_are_refused(tmp_path: Path, heads: int, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        convert(GOLDEN / 'vit_6b_tiny', tmp_path / 'out', 'hf', num_heads=heads)


@pytest.mark.parametrize(
    ('name', 'change', 'message'),
    [
        (
            'embeddings.position_embedding',
            lambda t: t[0, 0],
            r'the shape \(64,\), of an InternViT it has 3 dimensions',
        ),
        ('embeddings.patch_embedding.weight', lambda t: t.flatten(1), 'of an InternViT it has 4 dimensions'),
        ('encoder.layers.0.mlp.fc1.weight', lambda t: t.sum(), 'of an InternViT it has 2 dimensions'),
        ('encoder.layers.0.mlp.fc1.bias', lambda t: t.int(), 'whole numbers, which weights are not'),
    ],
)
def test_tensors_of_another_kind_are_told(tmp_path: Path, name: str, change: Callable, message: str) -> None:
    shutil.copytree(GOLDEN / 'vit_6b_tiny', tmp_path / 'source')
    tensors = load_file(tmp_path / 'source' / 'model.safetensors')
    save_file({**tensors, name: change(tensors[name]).clone()}, tmp_path / 'source' / 'model.safetensors')
    with pytest.raises(CheckpointError, match=message):
        convert(tmp_path / 'source', tmp_path / 'out', 'hf')


def test_what_cannot_be_written_is_refused_before_anything_is_computed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr('internvl_mm.models.convert.report.our_forward', None)  # of a 6B model, minutes
    (tmp_path / 'link').symlink_to(tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'other').symlink_to(tmp_path / 'empty')
    for target, layout, message in (
        ('link', 'hf', 'exists: give a new name'),
        ('other', 'hf', 'cannot be replaced by a new folder: name one inside of it'),
        ('new', 'timm', "cannot be written as 'timm'"),
        ('new', 'pth', 'the pth layout is a file'),
    ):
        with pytest.raises(CheckpointError, match=message):
            convert(GOLDEN / 'vit_6b_tiny', tmp_path / target, layout)


def test_a_remainder_of_a_patch_in_the_image_size_is_no_contradiction(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / 'vit_6b_tiny', tmp_path / 'source')
    config = json.loads((tmp_path / 'source' / 'config.json').read_text())
    (tmp_path / 'source' / 'config.json').write_text(json.dumps({**config, 'image_size': 60}))
    assert convert(tmp_path / 'source', tmp_path / 'out', 'hf').exact
    assert json.loads((tmp_path / 'out' / 'config.json').read_text())['image_size'] == 56


def test_models_of_other_channels_are_compared_too(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / 'vit_6b_tiny', tmp_path / 'source')
    config = json.loads((tmp_path / 'source' / 'config.json').read_text())
    (tmp_path / 'source' / 'config.json').write_text(json.dumps({**config, 'num_channels': 1}))
    tensors = load_file(tmp_path / 'source' / 'model.safetensors')
    kernel = 'embeddings.patch_embedding.weight'
    tensors[kernel] = tensors[kernel][:, :1].contiguous()
    save_file(tensors, tmp_path / 'source' / 'model.safetensors')
    assert convert(tmp_path / 'source', tmp_path / 'out.pth', 'pth').exact


@pytest.mark.parametrize(('case', 'layout'), [('vit_6b_tiny', 'native'), ('vit_300m_tiny', 'timm')])
def test_a_norm_floor_the_peer_cannot_express_is_refused(tmp_path: Path, case: str, layout: str) -> None:
    shutil.copytree(GOLDEN / case, tmp_path / 'source')
    config = json.loads((tmp_path / 'source' / 'config.json').read_text())
    (tmp_path / 'source' / 'config.json').write_text(json.dumps({**config, 'layer_norm_eps': 1e-5}))
    with pytest.raises(
        CheckpointError, match=f'layer_norm_eps=1e-05 cannot be expressed in the {layout} layout'
    ):
        convert(tmp_path / 'source', tmp_path / 'out', layout)


def test_an_incomplete_checkpoint_cannot_be_measured(tmp_path: Path) -> None:
    tensors = load_file(GOLDEN / 'vit_6b_tiny' / 'model.safetensors')
    del tensors['encoder.layers.0.mlp.fc1.weight']
    save_file(tensors, tmp_path / 'model.safetensors')
    with pytest.raises(CheckpointError, match=r"has no 'encoder.layers.0.mlp.fc1.weight': it is incomplete"):
        convert(tmp_path, tmp_path / 'out', 'hf', num_heads=4)
