"""Checkpoints of segmentation, detection and plain vision transformers: names, and nothing left unaccounted for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmseg.models import UPerHead
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from internvl_mm.engine.strategies import SingleDeviceStrategy
from internvl_mm.models.backbones import BaseBackbone, InternViT, ViTAdapter
from internvl_mm.models.convert import from_hf, load_vision_weights
from internvl_mm.models.convert.adapter import fill_adapter, load_adapter
from internvl_mm.models.convert.plain import complete_plain_vit
from internvl_mm.models.convert.tasks import to_task
from internvl_mm.models.heads.linear_seg import LinearSegHead
from internvl_mm.models.necks import MultiScaleNeck
from internvl_mm.models.published_dense import build_published_adapter
from internvl_mm.models.tasks.segment import Segmenter
from internvl_mm.utils.errors import CheckpointError, ConfigError

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden' / 'vit_adapter_tiny'
PLAIN = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    image_size=64,
    patch_size=16,
    norm_type='layer_norm',
    qk_normalization=False,
    qkv_bias=True,
    initializer_factor=1.0,
)


def deit(*, patch_size: int = 16, image_size: int = 64) -> VisionTransformer:
    """A plain ViT of timm, which DeiT and AugReg checkpoints are made of, with random weights everywhere."""
    peer = VisionTransformer(
        img_size=image_size, patch_size=patch_size, embed_dim=16, depth=2, num_heads=2, num_classes=5
    )
    for parameter in peer.parameters():
        nn.init.normal_(parameter, std=0.2)
    return peer.eval()


def original_adapter(adapter: ViTAdapter) -> dict[str, Tensor]:
    """State of an adapter under the names of the original repository: no class token, gamma1 and gamma2."""
    renamed = {}
    for name, tensor in adapter.state_dict().items():
        for ours, theirs in (
            ('vit.embeddings.position_embedding', 'pos_embed'),
            ('vit.embeddings.patch_embedding.', 'patch_embed.proj.'),
            ('vit.encoder.layers.', 'blocks.'),
            ('.ls1', '.gamma1'),
            ('.ls2', '.gamma2'),
        ):
            name = name.replace(ours, theirs)
        renamed[name] = tensor
    return renamed


def original_form(**vit) -> ViTAdapter:
    adapter = ViTAdapter(
        backbone=InternViT(
            **{**PLAIN, **vit}, use_class_token=False, window_size=3, window_padding='projected'
        ),
        interactions=((0, 0), (1, 1)),
        conv_inplane=4,
        deform_num_heads=2,
        deform_ratio=1.0,
        norm='batch',
        eps=1e-6,
    )
    for tensor in adapter.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.1, 1.0)
    return adapter


def test_a_plain_vit_computes_what_timm_computes_before_its_final_norm(tmp_path: Path) -> None:
    peer = deit()
    torch.save({'model': peer.state_dict()}, tmp_path / 'deit.pth')
    backbone = InternViT(**PLAIN, pretrained=str(tmp_path / 'deit.pth')).eval()
    backbone.init_weights()
    assert torch.equal(backbone.encoder.layers[1].ls2, torch.ones(16))
    peer.norm = nn.Identity()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            backbone(pixels).tokens, peer.forward_features(pixels), atol=1e-5, rtol=1e-5
        )


def test_a_plain_vit_of_another_patch_and_size_is_resampled(tmp_path: Path) -> None:
    torch.save(deit(patch_size=14, image_size=56).state_dict(), tmp_path / 'vit.pth')
    backbone = InternViT(**PLAIN, use_class_token=False)
    load_vision_weights(backbone, tmp_path / 'vit.pth')
    assert backbone.embeddings.patch_embedding.weight.shape == (16, 3, 16, 16)
    assert backbone.embeddings.position_embedding.shape == (1, 17, 16)
    assert 'embeddings.class_embedding' not in backbone.state_dict()


def test_what_is_no_plain_vit_stays_as_it_is() -> None:
    backbone = InternViT(**PLAIN)
    published = {**backbone.state_dict()}
    assert complete_plain_vit(published, 'x') is published
    # layer scale and a final norm: some other architecture, which strict loading refuses
    other = {
        'pos_embed': torch.zeros(1, 17, 16),
        'blocks.0.ls1.gamma': torch.ones(16),
        'norm.weight': torch.ones(16),
    }
    assert complete_plain_vit(other, 'x') is other


def test_a_file_without_class_token_needs_a_model_without(tmp_path: Path) -> None:
    state = InternViT(**PLAIN).state_dict()
    del state['embeddings.class_embedding']
    save_file(state, tmp_path / 'model.safetensors')
    with pytest.raises(
        CheckpointError, match=r'not in the file: embeddings.class_embedding.*use_class_token=False'
    ):
        load_vision_weights(InternViT(**PLAIN), tmp_path)
    load_vision_weights(InternViT(**PLAIN, use_class_token=False), tmp_path)


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.backbone.'])
def test_an_original_adapter_checkpoint_loads_strictly(tmp_path: Path, prefix: str) -> None:
    source, target = original_form(), original_form()
    stored = {prefix + name: tensor for name, tensor in original_adapter(source).items()}
    if prefix:
        stored |= {'decode_head.conv_seg.weight': torch.zeros(2, 2)}
    save_file(stored, tmp_path / 'model.safetensors')
    for tensor in target.state_dict().values():
        tensor.zero_()
    load_adapter(target, tmp_path)
    assert source.state_dict().keys() == target.state_dict().keys()
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name
    assert prefix + 'spm.stem.1.running_mean' in stored


def test_our_own_adapter_loads_back_and_its_vit_alone(tmp_path: Path) -> None:
    source = original_form()
    save_file({f'backbone.{name}': tensor for name, tensor in source.state_dict().items()},
              tmp_path / 'model.safetensors')  # fmt: skip
    target = original_form()
    target.pretrained = tmp_path
    target.init_weights()
    assert torch.equal(target.norm4.running_var, source.norm4.running_var)
    vit = InternViT(**PLAIN, use_class_token=False)
    load_vision_weights(vit, tmp_path)
    assert torch.equal(vit.encoder.layers[1].mlp.fc1.weight, source.vit.encoder.layers[1].mlp.fc1.weight)


def test_the_vit_under_a_new_adapter_starts_from_its_own_weights(tmp_path: Path) -> None:
    torch.save(deit().state_dict(), tmp_path / 'deit.pth')
    adapter = original_form(pretrained=str(tmp_path / 'deit.pth'))
    before = adapter.up.weight.clone()
    adapter.init_weights()
    assert torch.equal(adapter.vit.encoder.layers[0].ls1, torch.ones(16))
    assert torch.equal(adapter.up.weight, before)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(lose='interactions.1.injector.gamma'), r"missing: \['interactions.1.injector.gamma'\]"),
        (dict(lose='norm1.running_mean'), r"missing: \['norm1.running_mean'\]"),
        (dict(lose='blocks.1.attn.proj.bias'), r'not in the file: encoder.layers.1.attn.proj.bias'),
        (dict(add='spm.stem.9.weight'), r"unexpected: \['spm.stem.9.weight'\]"),
        (dict(add='blocks.1.attn.extra'), 'blocks.1.attn.extra is no part of InternViT'),
    ],
)
def test_every_tensor_of_an_adapter_is_accounted_for(change: dict, message: str) -> None:
    stored = original_adapter(original_form())
    if 'lose' in change:
        del stored[change['lose']]
    else:
        stored[change['add']] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=message):
        fill_adapter(original_form(), stored, 'the file')


def test_the_published_builder_knows_its_arguments() -> None:
    weights = load_file(GOLDEN / 'model.safetensors')
    arguments = dict(img_size=64, embed_dim=48, num_heads=4, depth=4, mlp_ratio=2, conv_inplane=8,
                     deform_num_heads=4, interaction_indexes=[[0, 1], [2, 3]])  # fmt: skip
    # the default of deform_ratio is the 0.5 of the class, not the 0.25 of the published config
    assert build_published_adapter(arguments, weights).strides == (4.0, 8.0, 16.0, 32.0)
    assert build_published_adapter(
        {**arguments, 'out_indices': [0, 1, 2, 3], 'with_fpn': False}, weights
    ).groups
    with pytest.raises(CheckpointError, match='unexpected: .*norm1.bias'):
        build_published_adapter({**arguments, 'out_indices': [0, 1, 2]}, weights)
    with pytest.raises(ConfigError, match='interaction_indexes is missing'):
        build_published_adapter({**arguments, 'interaction_indexes': None}, weights)
    with pytest.raises(ConfigError, match="'deform_head' is no argument of the published adapter"):
        build_published_adapter({**arguments, 'deform_head': 4}, weights)
    with pytest.raises(CheckpointError, match='unexpected: .*extra_extractors'):
        build_published_adapter({**arguments, 'use_extra_extractor': False}, weights)
    with pytest.raises(CheckpointError, match='unexpected: .*norm1.bias'):
        build_published_adapter({**arguments, 'use_final_norm': False}, weights)
    with pytest.raises(CheckpointError, match='unexpected: .*ffn'):
        build_published_adapter({**arguments, 'with_cffn': False}, weights)


@pytest.mark.parametrize('indices', [[0, 1, 2], [1]])
def test_any_other_number_of_maps_is_the_three_coarser_ones_as_published(indices: list[int]) -> None:
    golden = load_file(GOLDEN / 'golden.safetensors')
    weights = load_file(GOLDEN / 'model.safetensors')
    weights = {
        name: tensor for name, tensor in weights.items() if not name.startswith(('up.', 'norm1.', 'spm.fc1.'))
    }
    arguments = json.loads((GOLDEN / 'case.json').read_text(encoding='utf-8'))['arguments']
    # the last group as published slices: its end may lie beyond the blocks
    arguments.update(out_indices=indices, interaction_indexes=[[0, 1], [2, 9]])
    with torch.no_grad():
        maps = build_published_adapter(arguments, weights)(golden['pixel_values']).maps
    assert len(maps) == 3
    for index, map_ in enumerate(maps, start=1):
        torch.testing.assert_close(map_, golden[f'feature_{index}'], atol=2e-5, rtol=0)


def test_an_adapter_of_three_maps_is_read_with_its_vit(tmp_path: Path) -> None:
    weights = {
        name: tensor
        for name, tensor in load_file(GOLDEN / 'model.safetensors').items()
        if not name.startswith(('up.', 'norm1.', 'spm.fc1.'))
    }
    save_file(weights, tmp_path / 'adapter.safetensors')
    arguments = json.loads((GOLDEN / 'case.json').read_text(encoding='utf-8'))['arguments']
    arguments.update(out_indices=[1, 2, 3])
    adapter = build_published_adapter(arguments, weights)
    nn.init.zeros_(adapter.spm.fc2.weight)
    adapter.load_weights(tmp_path / 'adapter.safetensors')
    assert torch.equal(adapter.spm.fc2.weight, weights['spm.fc2.weight'])


# whole models


def published(task: nn.Module) -> dict[str, Tensor]:
    """State of a task under the names of the published code."""
    renamed = {}
    for name, tensor in task.state_dict().items():
        if name.startswith('neck.up'):
            name = name.replace('neck.', 'backbone.', 1)
        elif name.startswith('backbone.'):
            inside = {name.removeprefix('backbone.').removeprefix('vit.'): tensor}
            vit = name.startswith(('backbone.embeddings', 'backbone.encoder', 'backbone.vit.'))
            (name,) = (f'backbone.{stored}' for stored in (from_hf(inside, 'pth') if vit else inside))
        renamed[name] = tensor
    return renamed


def uper_segmenter() -> Segmenter:
    backbone = InternViT(**PLAIN, out_indices=(0, 0, 1, 1))
    head = dict(type=UPerHead, in_index=[0, 1, 2, 3], channels=4, pool_scales=(1, 2), num_classes=3)
    task = Segmenter(backbone=backbone, neck=dict(type=MultiScaleNeck, stride=16.0), decode_head=head)
    return shuffle(task)


def linear_segmenter() -> Segmenter:
    backbone = InternViT(**PLAIN, out_indices=(1,))
    return shuffle(
        Segmenter(backbone=backbone, decode_head=dict(type=LinearSegHead, in_index=0, num_classes=3))
    )


def adapter_segmenter() -> Segmenter:
    head = dict(type=UPerHead, in_index=[0, 1, 2, 3], channels=4, pool_scales=(1, 2), num_classes=3)
    return shuffle(Segmenter(backbone=original_form(), decode_head=head))


def shuffle(task: Segmenter) -> Segmenter:
    for tensor in task.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.1, 1.0)
    return task


@pytest.mark.parametrize('make', [uper_segmenter, linear_segmenter, adapter_segmenter])
def test_a_whole_published_segmentation_checkpoint_starts_a_run(make, tmp_path: Path) -> None:
    source, target = make(), make()
    stored = published(source)
    assert any(name.startswith('backbone.blocks.') for name in stored)
    torch.save({'module': stored}, tmp_path / 'published.pth')
    strategy = SingleDeviceStrategy(precision='fp32', work_dir=str(tmp_path))
    strategy.prepare(target)
    strategy.load_checkpoint(str(tmp_path / 'published.pth'))
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name
    torch.save({'module': {**stored, 'decode_head.more.weight': torch.ones(1)}}, tmp_path / 'more.pth')
    with pytest.raises(CheckpointError, match='1 unexpected: decode_head.more.weight'):
        strategy.load_checkpoint(str(tmp_path / 'more.pth'))


def test_a_published_backbone_alone_goes_into_any_task(tmp_path: Path) -> None:
    strategy = SingleDeviceStrategy(precision='fp32', work_dir=str(tmp_path))
    task = strategy.prepare(adapter_segmenter())
    torch.save(deit().state_dict(), tmp_path / 'deit.pth')
    before = task.backbone.up.weight.clone()
    strategy.load_checkpoint(str(tmp_path / 'deit.pth'))
    assert torch.equal(task.backbone.vit.encoder.layers[0].ls1, torch.ones(16))
    assert torch.equal(task.backbone.up.weight, before)
    whole = original_form()
    torch.save(original_adapter(whole), tmp_path / 'adapter.pth')
    strategy.load_checkpoint(str(tmp_path / 'adapter.pth'))
    assert torch.equal(task.backbone.up.weight, whole.up.weight)


def test_names_of_a_detector_with_necks_in_a_row() -> None:
    expected = {
        'backbone.vit.embeddings.position_embedding',
        'backbone.spm.fc1.weight',
        'neck.1.fpn_convs.0.conv.bias',
    }
    stored = ('backbone.pos_embed', 'backbone.spm.fc1.weight', 'neck.fpn_convs.0.conv.bias')
    assert to_task({name: torch.ones(1) for name in stored}, expected, 'x').keys() == expected
    stored = ('backbone.pos_embed', 'backbone.up2.0.bias', 'neck.fpn_convs.0.conv.bias')
    expected = {'backbone.embeddings.position_embedding', 'neck.0.up2.0.bias', 'neck.1.fpn_convs.0.conv.bias'}
    assert to_task({name: torch.ones(1) for name in stored}, expected, 'x').keys() == expected
    ours = {'backbone.embeddings.position_embedding': torch.ones(1)}
    assert to_task(ours, ours, 'x') is ours


def test_a_backbone_without_published_layout_says_so() -> None:
    with pytest.raises(CheckpointError, match='some.pth: InternViT loads no published layout'):
        BaseBackbone.load_weights(InternViT(**PLAIN), 'some.pth')
