"""Pyramid necks: the published sizes, independent computations, loading, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

from internvl_mm.models.backbones import InternViT
from internvl_mm.models.necks import BackboneMaps, MultiScaleNeck, SimpleFeaturePyramid
from internvl_mm.models.published_dense import build_published_segmentation
from internvl_mm.registry import MODELS
from internvl_mm.structures import VisionFeatures
from internvl_mm.utils.errors import CheckpointError, ConfigError

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden' / 'seg_fpn_tiny'
TINY = dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=24, image_size=28)


def features(
    *, dim: int = 8, taps: int = 4, grid: tuple[int, int] = (4, 6), stride: float = 14.0
) -> VisionFeatures:
    generator = torch.Generator().manual_seed(0)
    maps = tuple(torch.randn(2, dim, *grid, generator=generator) for _ in range(taps))
    return VisionFeatures(
        torch.zeros(2, 1 + grid[0] * grid[1], dim), grid, maps=maps, strides=(stride,) * taps
    )


def shuffled(module: nn.Module) -> nn.Module:
    """No parameter at its neutral start."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, mean=0.1, std=0.3)
    return module


def channel_norm(maps: Tensor, norm: nn.Module) -> Tensor:
    """The definition: over channels, biased variance, floor inside the root."""
    centred = maps - maps.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    return normed * norm.weight[:, None, None] + norm.bias[:, None, None]


def doubled(maps: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """A transposed convolution of kernel and stride 2 as what it is: four linear maps, one per output cell."""
    cells = torch.einsum('bdhw,dcij->bchiwj', maps, layer.weight)
    return cells.flatten(4, 5).flatten(2, 3) + layer.bias[:, None, None]


def test_published_neck_has_its_sizes() -> None:
    with torch.device('meta'):
        neck = MultiScaleNeck(3200)
        maps = neck(VisionFeatures(torch.empty(1), (36, 36), maps=(torch.empty(1, 3200, 36, 36),) * 4))
    assert neck.strides == (3.5, 7.0, 14.0, 28.0)
    assert [tuple(map_.shape[2:]) for map_ in maps] == [(144, 144), (72, 72), (36, 36), (18, 18)]
    assert sum(parameter.numel() for parameter in neck.parameters()) == 122_896_000
    assert list(neck.state_dict()) == [
        f'up{layer}.{kind}' for layer in ('1.0', '1.1', '1.3', '2.0') for kind in ('weight', 'bias')
    ]


@pytest.mark.parametrize('norm', [None, 'layer'])
def test_multi_scale_neck_equals_its_definition(norm: str | None) -> None:
    neck, given = shuffled(MultiScaleNeck(8, norm=norm)), features()
    end = [(lambda x, n=scale[-1]: channel_norm(x, n)) if norm else (lambda x: x)
           for scale in (neck.up1, neck.up2, neck.up3, neck.up4)]  # fmt: skip
    t0, t1, t2, t3 = given.maps
    quadruple = doubled(F.gelu(channel_norm(doubled(t0, neck.up1[0]), neck.up1[1])), neck.up1[3])
    coarse = t3.unflatten(3, (3, 2)).unflatten(2, (2, 2)).amax((3, 5))
    for ours, expected, last in zip(
        neck(given), (quadruple, doubled(t1, neck.up2[0]), t2, coarse), end, strict=True
    ):
        assert_close(ours, last(expected))


def test_one_tap_feeds_all_four_scales() -> None:
    neck, given = shuffled(MultiScaleNeck(8)), features(taps=1, grid=(5, 5))
    four = VisionFeatures(given.tokens, given.grid, maps=given.maps * 4, strides=given.strides * 4)
    for one, same in zip(neck(given), neck(four), strict=True):
        assert torch.equal(one, same)
    assert neck(given)[3].shape[2:] == (2, 2)  # the odd row and column fall away


def test_the_start_of_the_neck_has_the_published_spread() -> None:
    neck = MultiScaleNeck(128)
    assert neck.up2[0].weight.std().item() == pytest.approx((2 / (4 * 128)) ** 0.5, rel=0.05)
    assert not neck.up2[0].bias.any()


def test_simple_feature_pyramid_equals_its_definition() -> None:
    neck, given = shuffled(SimpleFeaturePyramid(8, out_channels=6)), features(taps=2, stride=16.0)
    last, (finest, fine, same, coarse) = given.maps[-1], neck.levels
    starts = [
        doubled(F.gelu(channel_norm(doubled(last, finest[0]), finest[1])), finest[3]),
        doubled(last, fine[0]),
        last,
        F.max_pool2d(last, 2),
    ]
    expected = []
    for start, level in zip(starts, (finest, fine, same, coarse), strict=True):
        mixed = channel_norm(torch.einsum('bdhw,cd->bchw', start, level[-4].weight[..., 0, 0]), level[-3])
        # 3x3 convolution as a sum over the neighbours
        padded, kernel = F.pad(mixed, (1, 1, 1, 1)), level[-2].weight
        (height, width) = mixed.shape[2:]
        spread = sum(
            torch.einsum('bdhw,cd->bchw', padded[:, :, y : y + height, x : x + width], kernel[:, :, y, x])
            for y in range(3)
            for x in range(3)
        )
        expected.append(channel_norm(spread, level[-1]))
    expected.append(expected[-1][:, :, ::2, ::2])
    assert neck.strides == (4.0, 8.0, 16.0, 32.0, 64.0)
    for ours, wanted in zip(neck(given), expected, strict=True):
        assert_close(ours, wanted, rtol=1e-4, atol=1e-5)


def test_a_neck_of_mmdet_may_follow() -> None:
    class Next(BaseModule):
        def forward(self, maps: tuple[Tensor, ...]) -> int:
            return len(maps)

    both = MODELS.build([dict(type=MultiScaleNeck, dim=8), dict(type=Next)])
    assert both(features()) == 4


def test_the_neck_trains_on_a_frozen_backbone_without_gradients_in_it() -> None:
    backbone = InternViT(**TINY, out_indices=(0, 1, 2, 3), frozen='all')
    backbone.init_weights()
    neck = MultiScaleNeck(16)
    given = backbone.train()(torch.randn(1, 3, 28, 28))
    assert not any(map_.requires_grad for map_ in given.maps)
    sum(map_.square().sum() for map_ in neck(given)).backward()
    assert all(parameter.grad is not None for parameter in neck.parameters())
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_half_precision_weights_give_fp32_maps() -> None:
    for neck in (MultiScaleNeck(8), SimpleFeaturePyramid(8, out_channels=4)):
        assert {map_.dtype for map_ in neck.bfloat16()(features())} == {torch.float32}


@pytest.mark.parametrize(
    ('vit', 'neck_place'),
    [('', ''), ('backbone.', 'backbone.'), ('module.backbone.', 'module.backbone.'), ('backbone.', 'neck.')],
)
def test_the_neck_of_a_published_checkpoint_loads_strictly(tmp_path: Path, vit: str, neck_place: str) -> None:
    weights = load_file(GOLDEN / 'model.safetensors')
    stored = {
        (neck_place if name.startswith('up') else vit) + name: tensor for name, tensor in weights.items()
    }
    if vit:
        stored['decode_head.conv_seg.bias'] = torch.zeros(3)
    save_file(stored, tmp_path / 'model.safetensors')
    neck = MultiScaleNeck(48, pretrained=tmp_path)
    neck.init_weights()
    assert torch.equal(neck.up1[3].weight, weights['up1.3.weight'])
    # the ViT beside it loads from the same file
    backbone = InternViT(hidden_size=48, num_hidden_layers=4, num_attention_heads=4, intermediate_size=96,
                         image_size=56, pretrained=tmp_path)  # fmt: skip
    backbone.init_weights()
    assert torch.equal(backbone.encoder.layers[3].ls1, weights['blocks.3.ls1.gamma'])
    wrong = MultiScaleNeck(48, norm='layer', pretrained=tmp_path)
    with pytest.raises(CheckpointError, match=r"missing: \['up1.4.bias'"):
        wrong.init_weights()


def test_the_published_builder_accounts_for_every_tensor_and_argument() -> None:
    arguments = dict(img_size=56, embed_dim=48, num_heads=4, mlp_ratio=2, depth=4, out_indices=[3])
    weights = load_file(GOLDEN / 'model.safetensors')
    alone = {name: tensor for name, tensor in weights.items() if not name.startswith('up')}
    (tap,) = build_published_segmentation(arguments, alone)(torch.zeros(1, 3, 56, 56))
    assert tap.shape == (1, 48, 4, 4)
    # published maps come in the order of the blocks
    swapped = {**arguments, 'out_indices': [3, 1], 'unfreeze_pos_embed': True}
    assert torch.equal(build_published_segmentation(swapped, alone)(torch.zeros(1, 3, 56, 56))[1], tap)
    with pytest.raises(CheckpointError, match=r"unexpected: \['up1.0.bias'"):
        build_published_segmentation(arguments, weights)
    with pytest.raises(CheckpointError, match=r"missing: \['up1.0.bias'"):
        build_published_segmentation({**arguments, 'with_fpn': True}, alone)
    with pytest.raises(ConfigError, match="'with_fpm' is no argument.* Did you mean 'with_fpn'"):
        build_published_segmentation({**arguments, 'with_fpm': True}, weights)


def test_blocks_without_layer_scale_and_indexes_without_block_are_built_as_published() -> None:
    arguments = dict(img_size=56, embed_dim=48, num_heads=4, mlp_ratio=2, depth=4, out_indices=[-1, 3, 7])
    weights = {
        name: tensor for name, tensor in load_file(GOLDEN / 'model.safetensors').items() if name[:2] != 'up'
    }
    bare = {name: tensor for name, tensor in weights.items() if '.ls' not in name}
    ones = {name: torch.ones_like(tensor) if '.ls' in name else tensor for name, tensor in weights.items()}
    pixels = torch.randn(1, 3, 56, 56)
    for init in (None, 0):
        (ours,) = build_published_segmentation({**arguments, 'init_values': init}, bare)(pixels)
        assert torch.equal(ours, build_published_segmentation(arguments, ones)(pixels)[0])
    with pytest.raises(CheckpointError, match=r'not in the file: encoder.layers.0.ls1'):
        build_published_segmentation(arguments, bare)


def test_the_published_detection_class_has_windows_and_feeds_all_scales_from_the_last_tap() -> None:
    arguments = dict(img_size=56, embed_dim=48, num_heads=4, mlp_ratio=2, depth=4, out_indices=[1, 3], with_fpn=True,
                     window_attn=[True, False, True, True], window_size=[2, None, 3, 4],
                     output_dtype='float32')  # fmt: skip
    weights = {
        name: tensor
        for name, tensor in load_file(GOLDEN / 'model.safetensors').items()
        if name != 'cls_token'
    }
    model = build_published_segmentation(arguments, weights)
    backbone, neck = model
    assert [getattr(layer.attn, 'window_size', None) for layer in backbone.encoder.layers] == [2, None, 3, 4]
    pixels = torch.randn(1, 3, 70, 84)  # windows that are padded
    last = backbone(pixels).tokens.transpose(1, 2).unflatten(2, (5, 6))
    for map_, scale in zip(model(pixels), (neck.up1, neck.up2, neck.up3, neck.up4), strict=True):
        torch.testing.assert_close(map_, scale(last))
    plain = build_published_segmentation({**arguments, 'window_attn': False}, weights)
    assert not any(hasattr(layer.attn, 'window_size') for layer in plain[0].encoder.layers)


@pytest.mark.parametrize(
    ('make', 'given', 'message'),
    [
        (lambda: MultiScaleNeck(8, norm='batch'), None, "norm='batch' of MultiScaleNeck is unknown"),
        (lambda: MultiScaleNeck(8), features(taps=3), 'MultiScaleNeck takes 4 or 1 maps, but the backbone gives 3'),
        (lambda: MultiScaleNeck(8), features(dim=4), 'dim=8 but the maps of the backbone are 4 wide'),
        (lambda: SimpleFeaturePyramid(6), None, 'dim=6 of SimpleFeaturePyramid must be a multiple of 4'),
        (lambda: SimpleFeaturePyramid(8, num_outs=3), None, 'num_outs=3 is not possible'),
        (lambda: SimpleFeaturePyramid(8), features(taps=0), 'takes 1 maps, but the backbone gives 0'),
        (lambda: BackboneMaps(8), features(), r'strides=\(4.0, 8.0, 16.0, 32.0\) but the backbone gives \(14.0'),
    ],
)  # fmt: skip
def test_mistakes_are_told(make, given: VisionFeatures | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()(given)
