"""Weights in four layouts: exact names, strict loading, and refusals."""

from __future__ import annotations

import json
import os
import pickle
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file

from internvl_mm.engine.checkpoint import save_state
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.convert import from_hf, load_vision_weights, open_weights, to_hf
from internvl_mm.models.convert.files import find_weights
from internvl_mm.models.convert.legacy import read_pickle, write_pickle
from internvl_mm.models.layers import AttentionPool
from internvl_mm.utils.errors import CheckpointError

TINY = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, image_size=56)
TINY_300M = dict(TINY, norm_type='layer_norm', qk_normalization=False, qkv_bias=True)


def vit(**settings) -> InternViT:
    """A small model with random values everywhere."""
    backbone = InternViT(**{**TINY, **settings})
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return backbone


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


# names


def test_published_names_of_a_6b_block() -> None:
    state = vit().state_dict()
    pth, native = from_hf(state, 'pth'), from_hf(state, 'native')
    assert {name for name in pth if not name.startswith('blocks.')} == {
        'cls_token', 'pos_embed', 'patch_embed.proj.weight', 'patch_embed.proj.bias',
    }  # fmt: skip
    assert {name.removeprefix('blocks.2.') for name in pth if name.startswith('blocks.2.')} == {
        'norm1.weight', 'attn.qkv.weight', 'attn.q_norm.weight', 'attn.k_norm.weight', 'attn.proj.weight',
        'attn.proj.bias', 'ls1.gamma', 'norm2.weight', 'mlp.fc1.weight', 'mlp.fc1.bias', 'mlp.fc2.weight',
        'mlp.fc2.bias', 'ls2.gamma',
    }  # fmt: skip
    assert {name.removeprefix('encoder.layer.2.') for name in native if name.startswith('encoder.layer.2.')} == {
        'layernorm_before.weight', 'attention.q_proj.weight', 'attention.k_proj.weight', 'attention.v_proj.weight',
        'attention.q_norm.weight', 'attention.k_norm.weight', 'attention.projection_layer.weight',
        'attention.projection_layer.bias', 'lambda_1', 'layernorm_after.weight', 'mlp.fc1.weight', 'mlp.fc1.bias',
        'mlp.fc2.weight', 'mlp.fc2.bias', 'lambda_2',
    }  # fmt: skip
    q = state['encoder.layers.1.attn.qkv.weight'][:32]
    assert torch.equal(native['encoder.layer.1.attention.q_proj.weight'], q)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('settings', [TINY, TINY_300M], ids=['6b', '300m'])
@pytest.mark.parametrize('layout', ['hf', 'pth', 'native'])
def test_there_and_back_changes_nothing(layout: str, settings: dict, dtype: torch.dtype) -> None:
    state = vit(**settings).to(dtype).state_dict()
    found = to_hf(from_hf(state, layout))
    assert (found.layout, found.prefix, found.others, found.depth) == (layout, '', (), 3)
    assert_same(found.tensors, state)


@pytest.mark.parametrize(
    ('layout', 'prefix'),
    [
        ('hf', 'vision_model.'),
        ('native', 'model.vision_tower.'),
        ('native', 'vision_tower.'),
        ('hf', 'backbone.'),
        ('pth', 'module.'),
        ('hf', 'module.backbone.'),
    ],
)
def test_the_vit_is_found_inside_a_larger_model(layout: str, prefix: str) -> None:
    state = vit().state_dict()
    whole = {prefix + name: tensor for name, tensor in from_hf(state, layout).items()}
    found = to_hf({**whole, 'language_model.norm.weight': torch.ones(2)})
    assert (found.layout, found.prefix, found.others) == (layout, prefix, ('language_model.norm.weight',))
    assert_same(found.tensors, state)


def test_a_checkpoint_without_vit_is_refused() -> None:
    with pytest.raises(
        CheckpointError, match=r"none of 'embeddings.position_embedding', 'pos_embed'.*begins with lm_head"
    ):
        to_hf({'lm_head.weight': torch.ones(1)})


def test_half_a_split_projection_is_refused() -> None:
    native = from_hf(vit().state_dict(), 'native')
    del native['encoder.layer.1.attention.k_proj.weight']
    with pytest.raises(CheckpointError, match='encoder.layer.1.attention.k_proj.weight missing beside'):
        to_hf(native)


def test_names_that_are_not_internvit_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"'encoder.layers.0.attn.rope' is not the name"):
        from_hf({'encoder.layers.0.attn.rope': torch.ones(1)}, 'pth')


# files


def test_shards_are_read_through_the_index(tmp_path: Path) -> None:
    state = vit().state_dict()
    save_torch_state_dict(state, tmp_path, max_shard_size='20KB')
    assert len(list(tmp_path.glob('*.safetensors'))) > 3
    assert_same(dict(open_weights(tmp_path)), state)
    assert_same(dict(open_weights(tmp_path / 'model.safetensors.index.json')), state)

    next(tmp_path.glob('model-00002*')).unlink()
    with pytest.raises(CheckpointError, match=r'model-00002.*is missing: the checkpoint is incomplete'):
        open_weights(tmp_path)


@pytest.mark.parametrize('wrapper', ['module', 'model', 'state_dict', None])
def test_pickled_weights_are_read_bare_or_wrapped(tmp_path: Path, wrapper: str | None) -> None:
    state = {'x': torch.randn(2, 3).bfloat16()}
    torch.save({wrapper: state} if wrapper else state, tmp_path / 'weights.pth')
    assert_same(read_pickle(tmp_path / 'weights.pth'), state)


def test_sharded_pickles_are_read_through_their_index(tmp_path: Path) -> None:
    for name in ('x', 'y'):
        torch.save({name: torch.ones(1)}, tmp_path / f'{name}.bin')
    weight_map = {'x': 'x.bin', 'y': 'y.bin'}
    (tmp_path / 'pytorch_model.bin.index.json').write_text(json.dumps({'weight_map': weight_map}))
    assert set(open_weights(tmp_path)) == {'x', 'y'}
    (tmp_path / 'y.bin').unlink()
    with pytest.raises(CheckpointError, match='y.bin is missing'):
        open_weights(tmp_path)


class Malicious:
    """Unpickled naively, it would create a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (os.system, (f'touch {self.marker}',))


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
@pytest.mark.parametrize('as_zip', [True, False])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path: Path, as_zip: bool) -> None:
    marker, file = tmp_path / 'ran', tmp_path / 'weights.pth'
    payload = {'module': {'cls_token': torch.ones(1), 'x': Malicious(marker)}}
    if as_zip:
        torch.save(payload, file)
    else:
        file.write_bytes(pickle.dumps(Malicious(marker)))
    with pytest.raises(CheckpointError, match=r'was refused.*Nothing in it was executed') as refusal:
        load_vision_weights(vit(), file)
    assert not marker.exists()
    assert 'weights_only=False' not in str(refusal.value)


def test_a_work_dir_stands_for_its_newest_training_state(tmp_path: Path) -> None:
    state = tmp_path / '20260101_000000' / 'checkpoints' / 'iter_000010'
    save_state(state, dict(model={'x': torch.ones(1)}), {})
    assert find_weights(tmp_path) == find_weights(state.parents[1]) == state / 'model.safetensors'
    (state / 'manifest.json').unlink()
    with pytest.raises(CheckpointError, match='holds no weights: looked for .* and training states'):
        find_weights(tmp_path)


def test_a_renamed_training_state_is_compared_with_its_manifest_too(tmp_path: Path) -> None:
    state = save_state(tmp_path / 'iter_000001', dict(model={'x': torch.ones(1)}, meta=dict(iter=1)), {})
    renamed = state.rename(tmp_path / 'mine')
    (renamed / 'model.safetensors').write_bytes(b'')
    with pytest.raises(CheckpointError, match='has 0 bytes instead of'):
        find_weights(renamed)


def test_a_manifest_of_others_says_nothing_of_weights(tmp_path: Path) -> None:
    save_file({'x': torch.ones(1)}, tmp_path / 'model.safetensors')
    (tmp_path / 'manifest.json').write_text('["model.safetensors"]')
    assert find_weights(tmp_path) == tmp_path / 'model.safetensors'


def test_weights_that_a_manifest_does_not_list_are_refused(tmp_path: Path) -> None:
    state = save_state(tmp_path / 'iter_000001', dict(model={'x': torch.ones(1)}), {})
    manifest = state / 'manifest.json'
    manifest.write_text(manifest.read_text().replace('model.safetensors', 'mndel.safetensors'))
    with pytest.raises(CheckpointError, match='manifest.json does not list model.safetensors'):
        find_weights(state)


def test_damaged_training_states_are_no_weights(tmp_path: Path, capsys) -> None:
    older, newer = (
        save_state(tmp_path / f'iter_00000{number}', dict(model={'x': torch.ones(1)}), {})
        for number in (1, 2)
    )
    content = bytearray((newer / 'model.safetensors').read_bytes())
    content[-1] ^= 1  # one bit of one weight
    (newer / 'model.safetensors').write_bytes(content)
    for path in (newer, newer / 'model.safetensors'):
        with pytest.raises(CheckpointError, match='model.safetensors was changed after it was written'):
            find_weights(path)
    # A folder of states falls back, and says so; lines break wherever the console ends.
    assert find_weights(tmp_path) == older / 'model.safetensors'
    assert f'fallingbackto{older}' in ''.join(capsys.readouterr().out.split())


def test_pickles_that_are_no_weights(tmp_path: Path) -> None:
    file = tmp_path / 'weights.pth'
    torch.save({'epoch': 3}, file)
    with pytest.raises(CheckpointError, match='holds dict data, not names and tensors'):
        read_pickle(file)
    torch.save({'x': torch.ones(1000)}, file)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r'damaged|refused'):
        read_pickle(file)
    file.write_bytes(b'')
    with pytest.raises(CheckpointError, match='damaged or not a checkpoint'):
        read_pickle(file)
    torch.save({1: torch.ones(2)}, file)
    with pytest.raises(CheckpointError, match='not names and tensors'):
        read_pickle(file)
    with pytest.raises(CheckpointError, match='cannot be read'):
        read_pickle(tmp_path)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('as_zip', [True, False])
def test_pickles_cut_short_anywhere_are_refused(tmp_path: Path, as_zip: bool) -> None:
    file, dice = tmp_path / 'weights.pth', random.Random(0)
    torch.save({'module': vit().state_dict()}, file, _use_new_zipfile_serialization=as_zip)
    whole = file.read_bytes()
    for length in [dice.randrange(end) for end in 30 * [len(whole), 3000]]:
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match='damaged or not a checkpoint|was refused'):
            read_pickle(file)


# loading


@pytest.mark.parametrize('layout', ['hf', 'pth', 'native'])
def test_every_layout_loads_into_the_backbone_through_its_config(tmp_path: Path, layout: str) -> None:
    source = vit()
    stored = from_hf(source.state_dict(), layout)
    if layout == 'pth':
        path = tmp_path / 'intern_vit.pth'
        write_pickle(path, stored)
    else:
        path = tmp_path
        save_file(stored, tmp_path / 'model.safetensors')
    backbone = InternViT(**TINY, pretrained=str(path))
    backbone.init_weights()
    assert_same(backbone.state_dict(), source.state_dict())


def test_the_backbone_of_a_trained_classifier_starts_the_next_run(tmp_path: Path) -> None:
    source = vit().state_dict()
    trained = {f'backbone.{name}': tensor for name, tensor in source.items()}
    save_file({**trained, 'head.linear.weight': torch.ones(3, 32)}, tmp_path / 'model.safetensors')
    backbone = InternViT(**TINY, pretrained=str(tmp_path), frozen='all')
    backbone.init_weights()
    assert_same(backbone.state_dict(), source)
    assert backbone.is_frozen and not any(p.requires_grad for p in backbone.parameters())


def test_positions_and_kernel_are_resampled_on_load_in_the_dtype_the_published_loader_uses(
    tmp_path: Path,
) -> None:
    source = vit().bfloat16().state_dict()
    positions = source['embeddings.position_embedding'][:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    kernel = source['embeddings.patch_embedding.weight']
    save_file(source, tmp_path / 'hf.safetensors')
    save_file(from_hf(source, 'pth'), tmp_path / 'pth.safetensors')
    for name, dtype in (('hf', torch.float32), ('pth', torch.bfloat16)):
        backbone = InternViT(**{**TINY, 'image_size': 96, 'patch_size': 16})
        load_vision_weights(backbone, tmp_path / f'{name}.safetensors')

        def resized(images: torch.Tensor, side: int, dtype: torch.dtype = dtype) -> torch.Tensor:
            new = F.interpolate(images.to(dtype), size=(side, side), mode='bicubic', align_corners=False)
            return new.bfloat16().float()

        got = backbone.embeddings.position_embedding[:, 1:].transpose(1, 2).unflatten(2, (6, 6))
        assert torch.equal(got, resized(positions, 6))
        assert torch.equal(backbone.embeddings.patch_embedding.weight, resized(kernel, 16))


def test_a_deeper_file_is_used_only_when_the_config_says_how_deep_it_is(tmp_path: Path) -> None:
    file = tmp_path / 'deep.safetensors'
    source = vit(num_hidden_layers=5).state_dict()
    save_file(from_hf(source, 'pth'), file)
    with pytest.raises(
        CheckpointError,
        match='has 5 blocks but the model asks for num_hidden_layers=3: set num_hidden_layers=5, or pretrained_depth=5',
    ):
        load_vision_weights(vit(), file)

    backbone = InternViT(**TINY, pretrained=str(file), pretrained_depth=5)
    backbone.init_weights()
    assert_same(backbone.state_dict(), {name: source[name] for name in backbone.state_dict()})
    with pytest.raises(CheckpointError, match='has 5 blocks but the model asks for pretrained_depth=4'):
        load_vision_weights(vit(), file, file_depth=4)


@pytest.mark.parametrize(
    ('name', 'shape', 'message'),
    [
        ('embeddings.position_embedding', (1, 16, 32), 'has 15 patch slots, which is not a square'),
        ('embeddings.position_embedding', (17, 32), r'other shape: .*file \(17, 32\), model \(1, 17, 32\)'),
        ('embeddings.patch_embedding.weight', (32, 588), r'file \(32, 588\), model \(32, 3, 14, 14\)'),
        ('embeddings.class_embedding', (32,), r'file \(32,\), model \(1, 1, 32\)'),
    ],
)
def test_embeddings_of_impossible_shapes_are_refused(
    tmp_path: Path, name: str, shape: tuple[int, ...], message: str
) -> None:
    file = tmp_path / 'model.safetensors'
    save_file({**vit().state_dict(), name: torch.zeros(shape)}, file)
    with pytest.raises(CheckpointError, match=message):
        load_vision_weights(vit(), file)


def test_a_shallower_file_is_refused_even_when_its_depth_is_named(tmp_path: Path) -> None:
    file = tmp_path / 'shallow.safetensors'
    save_file(vit(num_hidden_layers=2).state_dict(), file)
    with pytest.raises(CheckpointError, match='has 2 blocks but the model asks for num_hidden_layers=3'):
        load_vision_weights(vit(), file)
    with pytest.raises(CheckpointError, match='has 2 blocks, fewer than num_hidden_layers=3'):
        load_vision_weights(vit(), file, file_depth=2)


def test_another_width_is_named_with_both_shapes(tmp_path: Path) -> None:
    file = tmp_path / 'wide.safetensors'
    save_file(vit(hidden_size=48).state_dict(), file)
    with pytest.raises(
        CheckpointError, match=r'has width 48 but.*hidden_size=32.*file \(1, 17, 48\), model \(1, 17, 32\)'
    ):
        load_vision_weights(vit(), file)


@pytest.mark.parametrize(
    ('in_file', 'in_model', 'message'),
    [
        (TINY, TINY_300M, "set qk_normalization=True; set qkv_bias=False; set norm_type='rms_norm'"),
        (TINY_300M, TINY, "set qk_normalization=False; set qkv_bias=True; set norm_type='layer_norm'"),
        (
            dict(TINY, intermediate_size=80),
            TINY,
            r'other shape: .*fc1.weight \(file \(80, 32\), model \(64, 32\)\)',
        ),
    ],
)
def test_misfits_name_the_setting_that_explains_them(
    tmp_path: Path, in_file: dict, in_model: dict, message: str
) -> None:
    save_file(InternViT(**in_file).requires_grad_(False).state_dict(), tmp_path / 'model.safetensors')
    with pytest.raises(CheckpointError, match=message):
        load_vision_weights(InternViT(**in_model), tmp_path)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    state = vit().state_dict()
    del state['encoder.layers.1.ls2']
    save_file(state, tmp_path / 'model.safetensors')
    with pytest.raises(CheckpointError, match='not in the file: encoder.layers.1.ls2'):
        load_vision_weights(vit(), tmp_path)


def test_a_final_norm_is_not_silently_dropped(tmp_path: Path) -> None:
    save_file(
        {**from_hf(vit().state_dict(), 'pth'), 'norm.weight': torch.ones(32)}, tmp_path / 'model.safetensors'
    )
    with pytest.raises(CheckpointError, match='norm.weight is no part of InternViT'):
        load_vision_weights(vit(), tmp_path)


def test_the_projector_of_the_original_224px_file_is_reported(tmp_path: Path, monkeypatch) -> None:
    messages = []
    monkeypatch.setattr(
        'internvl_mm.models.convert.load.print_log', lambda message, *_: messages.append(message)
    )
    pool = AttentionPool(32, num_heads=4, out_dim=8).state_dict()
    projector = {f'clip_projector.{name}': tensor for name, tensor in pool.items()}
    save_file({**from_hf(vit().state_dict(), 'pth'), **projector}, tmp_path / 'model.safetensors')
    assert set(load_vision_weights(vit(), tmp_path).others) == set(projector)
    assert messages == [f'{tmp_path}: read 43 tensors of InternViT, not read: 14 of clip_projector']
