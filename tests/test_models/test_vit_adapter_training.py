"""ViT-Adapter: freezing, drop path, half precision, batch norms on many processes, and mistakes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from internvl_mm.engine.strategies.sync_bn import CollectiveBatchNorm, synchronise_batch_norms
from internvl_mm.models.backbones import ViTAdapter
from internvl_mm.utils.errors import ConfigError, DataError
from tests.test_models.tiny_adapter import ORIGINAL, SIZES, make


def test_a_frozen_vit_gets_no_gradient_while_every_part_of_the_adapter_does() -> None:
    adapter = make(dict(frozen='all', drop_path_rate=0.5)).train()
    assert adapter.training and not adapter.vit.training
    sum((map_ * torch.randn_like(map_)).sum() for map_ in adapter(torch.randn(1, 3, 64, 64)).maps).backward()
    for name, parameter in adapter.named_parameters():
        assert (parameter.grad is not None) == (not name.startswith('vit.')), name


def test_freezing_the_whole_freezes_the_vit_and_back() -> None:
    adapter = make(frozen='all').train()
    assert not adapter.training and not adapter.vit.training
    assert not any(parameter.requires_grad for parameter in adapter.parameters())
    adapter.freeze(2)  # embeddings and block 0
    frozen = {adapter.layer_id(name) for name, p in adapter.named_parameters() if not p.requires_grad}
    assert frozen == {0, 1}
    assert adapter.train().vit.training


def test_drop_path_of_the_extractors_is_constant() -> None:
    adapter = make(drop_path_rate=0.25)
    rates = {
        extractor.drop_path.drop_prob
        for interaction in adapter.interactions
        for extractor in (interaction.extractor, *interaction.extra_extractors)
    }
    assert rates == {0.25}


@pytest.mark.parametrize('form', [{}, ORIGINAL], ids=['6b', 'original'])
def test_half_precision_gives_fp32_maps_near_those_of_fp32(form: dict) -> None:
    pixels = torch.randn(2, 3, 64, 64)
    exact = make(**form).eval()
    half = make(**form).eval().bfloat16()
    with torch.no_grad():
        expected, whole_half = exact(pixels).maps, half(pixels).maps
        with torch.autocast('cpu', torch.bfloat16):
            mixed = exact(pixels).maps
        exact.vit.bfloat16()  # a half backbone under an adapter that trains in fp32
        half_vit = exact(pixels).maps
    for maps in (whole_half, mixed, half_vit):
        for ours, wanted in zip(maps, expected, strict=True):
            assert ours.dtype == torch.float32
            assert F.cosine_similarity(ours.flatten(), wanted.flatten(), dim=0) > 0.99


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(interactions=((0, 4),)), 'block of each group, out of blocks 0 to 3'),
        (dict(interactions=((0, 3), (2, 1))), 'block of each group, out of blocks 0 to 3'),
        (dict(interactions=()), 'block of each group, out of blocks 0 to 3'),
        (dict(num_maps=2), r'num_maps=2 of ViTAdapter is not possible: use 4 \(strides 4 to 32\) or 3'),
        (
            dict(num_maps=3, vit_features='groups'),
            'one group to each of 3 maps, but there are 4 interactions',
        ),
        (dict(interactions=((0, 3),), vit_features='groups'), 'there are 1 interactions'),
        (dict(vit_features='all'), "vit_features='all' is unknown"),
        (dict(norm='group'), "norm='group' of ViTAdapter is unknown"),
        (dict(deform_num_heads=3), 'ratio=0.5 of embed_dims=16'),
        (dict(conv_inplane=0), 'conv_inplane=0 is not possible'),
        (dict(drop_path_rate=1.5), 'drop_path_rate=1.5 is not possible'),
        (dict(frozen=9), "frozen=9: allowed are 'all' and 0 to 6"),
    ],
)
def test_impossible_settings_say_what_is_possible(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**change)


def test_a_vit_it_cannot_wrap_is_refused() -> None:
    with pytest.raises(ConfigError, match='needs a ViT of patch_size=16, not 14'):
        make(dict(patch_size=14))
    with pytest.raises(ConfigError, match='wraps a BlockBackbone, such as InternViT; Linear cannot'):
        ViTAdapter(backbone=nn.Linear(2, 2), **SIZES)


def test_images_off_the_grid_are_refused() -> None:
    with pytest.raises(DataError, match='image of 64x48 pixels: ViT-Adapter takes multiples of 32'):
        make()(torch.zeros(1, 3, 64, 48))


def test_batch_norms_become_shared_ones_on_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make(**ORIGINAL)
    before = {name: tensor.clone() for name, tensor in adapter.state_dict().items()}
    monkeypatch.setattr('torch.distributed.get_world_size', lambda: 2)
    synchronise_batch_norms(adapter)
    norms = [module for module in adapter.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 6 + 4  # of the stem and its stages, and of the four maps
    assert all(isinstance(norm, CollectiveBatchNorm) for norm in norms)
    assert adapter.state_dict().keys() == before.keys()
    pixels = torch.randn(1, 3, 64, 64)
    peer = make(**ORIGINAL).eval()
    with torch.no_grad():
        for ours, plain in zip(adapter.eval()(pixels).maps, peer(pixels).maps, strict=True):
            assert_close(ours, plain)
