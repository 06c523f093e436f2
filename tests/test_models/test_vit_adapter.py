"""ViT-Adapter: published sizes, independent computations, its forms, freezing, recomputation, and mistakes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from internvl_mm.engine.config import load_config
from internvl_mm.engine.config.checking import resolve
from internvl_mm.models.backbones import InternViT, ViTAdapter
from internvl_mm.models.backbones.vit_adapter_parts import (
    ConvFeedForward,
    Extractor,
    Injector,
    SpatialPrior,
)
from internvl_mm.ops import MultiScaleDeformableAttention
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import ConfigError
from tests.test_models.tiny_adapter import LIGHT, ORIGINAL, SIZES, VIT, make, numel, settings, shuffled

# sizes


def test_the_6b_form_has_the_published_numbers_of_parameters() -> None:
    with torch.device('meta'):
        vit = InternViT(image_size=512, patch_size=16, use_class_token=False, frozen='all')
        adapter = ViTAdapter(backbone=vit, interactions=((0, 11), (12, 23), (24, 35), (36, 47)))
    assert numel(adapter.spm) == 3_301_184
    assert [numel(interaction.injector) for interaction in adapter.interactions] == [8_020_900] * 4
    last = adapter.interactions[3]
    assert [numel(extractor) for extractor in (last.extractor, *last.extra_extractors)] == [11_235_500] * 3
    assert sum(p.numel() for p in adapter.parameters() if p.requires_grad) == 143_796_184
    assert len(adapter.interactions[0].extra_extractors) == 0


@pytest.mark.parametrize(
    ('size', 'total', 'windows', 'last_group'),
    [
        # with Mask R-CNN's 20.1 to 20.9 M: the paper's 28.1, 47.8, 120.2 and 347.9 M
        ('tiny_detection', 7_928_816, 14, (9, 11)),
        ('small_detection', 27_428_240, 14, (9, 11)),
        ('base_detection', 99_344_096, 14, (9, 11)),
        ('large_detection', 326_382_784, 14, (18, 23)),
        ('tiny_seg', 7_928_816, None, (9, 11)),
        ('large_seg', 326_382_784, None, (18, 23)),
        ('6b', 6_046_340_184, None, (36, 47)),
    ],
)
def test_shipped_sizes(size: str, total: int, windows: int | None, last_group: tuple[int, int]) -> None:
    settings = resolve(load_config(f'_base_/models/vit_adapter_{size}.py').backbone)
    with torch.device('meta'):
        adapter = MODELS.build(settings)
    # positions aside, whose number goes with the image size
    assert numel(adapter) - adapter.vit.embeddings.position_embedding.numel() == total
    assert adapter.groups[-1] == range(last_group[0], last_group[1] + 1)
    kinds = [getattr(layer.attn, 'window_size', None) for layer in adapter.vit.encoder.layers]
    assert kinds[-1] is None  # the last block of each group is global
    assert kinds[0] == windows
    assert adapter.vit_features == ('groups' if size.endswith('seg') else 'final')
    assert adapter.vit.is_frozen == (size == '6b')


def test_the_start_is_the_published_one() -> None:
    torch.manual_seed(0)
    adapter = ViTAdapter(backbone=InternViT(**VIT), **SIZES)
    attention = adapter.interactions[0].injector.attn
    assert not attention.sampling_offsets.weight.any()
    # the first head looks right, the second left; point p at distance p + 1
    first = attention.sampling_offsets.bias.view(2, 3, 4, 2)[:, 0]
    assert_close(first[0], torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0]]))
    assert_close(first[1], -first[0], atol=1e-6, rtol=0)
    assert not adapter.interactions[0].injector.gamma.any()
    # depthwise: 9 cells, one channel per group
    assert adapter.interactions[0].extractor.ffn.dwconv.dwconv.weight.std().item() == pytest.approx(
        math.sqrt(2 / 9), rel=0.4
    )
    assert adapter.spm.stem[3].weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 4)), rel=0.25)
    assert adapter.level_embed.std().item() == pytest.approx(1, rel=0.4)


# independent computations


def bilinear(image: Tensor, x: float, y: float) -> Tensor:
    """``image [C, h, w]`` at pixel coordinates, zeros outside; written for one point."""
    found = torch.zeros(image.shape[0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                found += (1 - abs(x - column)) * (1 - abs(y - row)) * image[:, row, column]
    return found


def looked_up(
    attention: MultiScaleDeformableAttention,
    queries: Tensor,
    centres: list[tuple[float, float]],
    maps: list[Tensor],
) -> Tensor:
    """Deformable attention of one image, point by point: ``queries [Q, D]``, maps ``[D, h, w]`` -> ``[Q, D]``."""
    heads, levels, points = attention.num_heads, len(maps), attention.num_points
    values = [attention.value_proj(map_.permute(1, 2, 0)).permute(2, 0, 1) for map_ in maps]
    width = values[0].shape[0] // heads
    rows = []
    for query, (x, y) in zip(queries, centres, strict=True):
        offsets = attention.sampling_offsets(query).view(heads, levels, points, 2)
        weights = attention.attention_weights(query).view(heads, -1).softmax(-1).view(heads, levels, points)
        mixed = torch.zeros(heads, width)
        for head in range(heads):
            for level, value in enumerate(values):
                height, breadth = value.shape[1:]
                part = value[head * width : (head + 1) * width]
                for point in range(points):
                    dx, dy = offsets[head, level, point].tolist()
                    sample = bilinear(part, x * breadth + dx - 0.5, y * height + dy - 0.5)
                    mixed[head] += weights[head, level, point] * sample
        rows.append(attention.output_proj(mixed.flatten()))
    return torch.stack(rows)


def centres_of(height: int, width: int) -> list[tuple[float, float]]:
    return [((x + 0.5) / width, (y + 0.5) / height) for y in range(height) for x in range(width)]


GRID = (2, 4)
GRIDS = [(4, 8), (2, 4), (1, 2)]


def tokens_and_maps() -> tuple[Tensor, Tensor]:
    """Patches [1, 8, 8] of a 2x4 grid, and the cells [1, 42, 8] of its three maps."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 8, 8, generator=generator), torch.randn(1, 42, 8, generator=generator)


def as_maps(cells: Tensor, grids: list[tuple[int, int]]) -> list[Tensor]:
    """``[cells, D]`` to ``[D, h, w]`` by counting."""
    maps, start = [], 0
    for height, width in grids:
        maps.append(cells[start : start + height * width].T.reshape(-1, height, width))
        start += height * width
    return maps


@torch.no_grad()
def test_the_injector_equals_its_definition() -> None:
    injector, (x, c) = shuffled(Injector(settings())), tokens_and_maps()
    normed = F.layer_norm(x[0], (8,), injector.query_norm.weight, injector.query_norm.bias, 1e-5)
    values = F.layer_norm(c[0], (8,), injector.feat_norm.weight, injector.feat_norm.bias, 1e-5)
    found = looked_up(injector.attn, normed, centres_of(*GRID), as_maps(values, GRIDS))
    assert_close(injector(x, c, GRID)[0], x[0] + injector.gamma * found, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_extractor_equals_its_definition() -> None:
    extractor, (x, c) = shuffled(Extractor(settings())), tokens_and_maps()
    normed = F.layer_norm(c[0], (8,), extractor.query_norm.weight, extractor.query_norm.bias, 1e-5)
    values = F.layer_norm(x[0], (8,), extractor.feat_norm.weight, extractor.feat_norm.bias, 1e-5)
    centres = [centre for grid in GRIDS for centre in centres_of(*grid)]
    expected = c[0] + looked_up(extractor.attn, normed, centres, as_maps(values, [GRID]))
    after = F.layer_norm(expected, (8,), extractor.ffn_norm.weight, extractor.ffn_norm.bias, 1e-5)
    expected = expected + extractor.ffn(after[None], GRIDS)[0]
    assert_close(extractor(c, x, GRID)[0], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_feed_forward_part_mixes_each_scale_alone_with_one_kernel() -> None:
    part, (_, c) = shuffled(ConvFeedForward(8, 4)), tokens_and_maps()
    kernel, bias = part.dwconv.dwconv.weight[:, 0], part.dwconv.dwconv.bias
    mixed = []
    for map_ in as_maps(part.fc1(c[0]), GRIDS):
        padded = F.pad(map_, (1, 1, 1, 1))
        height, width = map_.shape[1:]
        spread = sum(
            padded[:, y : y + height, x : x + width] * kernel[:, y, x, None, None]
            for y in range(3)
            for x in range(3)
        )
        mixed.append((spread + bias[:, None, None]).flatten(1).T)
    assert_close(part(c, GRIDS)[0], part.fc2(F.gelu(torch.cat(mixed))), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_stem_sizes_and_norms() -> None:
    prior = SpatialPrior(8, 4, 'channel')
    assert [tuple(map_.shape) for map_ in prior(torch.randn(2, 3, 32, 64))] == [
        (2, 8, 8, 16), (2, 8, 4, 8), (2, 8, 2, 4), (2, 8, 1, 2),
    ]  # fmt: skip
    assert [name for name in prior.state_dict() if name.startswith('stem.')] == [
        'stem.0.weight', 'stem.1.weight', 'stem.1.bias', 'stem.3.weight', 'stem.4.weight', 'stem.4.bias',
        'stem.6.weight', 'stem.7.weight', 'stem.7.bias',
    ]  # fmt: skip
    assert all(isinstance(SpatialPrior(8, 4, 'batch').stem[i], nn.BatchNorm2d) for i in (1, 4, 7))


# the whole


@pytest.mark.parametrize('class_token', [False, True])
def test_with_a_scale_of_zero_the_tokens_are_those_of_the_plain_vit(class_token: bool) -> None:
    adapter = make(dict(use_class_token=class_token)).eval()
    for interaction in adapter.interactions:
        nn.init.zeros_(interaction.injector.gamma)
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features, plain = adapter(pixels), adapter.vit(pixels)
    assert_close(features.tokens, plain.tokens)
    assert features.has_class_token == class_token
    assert features.grid == (4, 6)
    if class_token:
        assert_close(features.pooled, plain.tokens[:, 0])


def test_tokens_without_class_token_say_so() -> None:
    with pytest.raises(ConfigError, match='the backbone runs without one: set use_class_token=True'):
        _ = make().eval()(torch.randn(1, 3, 32, 32)).pooled


@torch.no_grad()
def test_the_last_step_adds_the_tokens_of_the_vit_at_four_scales() -> None:
    pixels = torch.randn(1, 3, 64, 64)
    for form, index in (('final', (3, 3, 3, 3)), ('groups', (0, 1, 2, 3))):
        with_features = make(final_norm=False, vit_features=form).eval()
        without = make(final_norm=False, vit_features=None).eval()
        with_features.vit.out_indices = ()
        outputs: list[Tensor] = []
        runs = with_features.vit.run_blocks

        def run(*args, runs=runs, outputs=outputs):
            outputs.append(runs(*args))
            return outputs[-1]

        with_features.vit.run_blocks = run
        maps = with_features(pixels).maps
        for map_, plain, group in zip(maps, without(pixels).maps, index, strict=True):
            added = outputs[group].transpose(1, 2).unflatten(2, (4, 4))
            scaled = F.interpolate(
                added, scale_factor=map_.shape[-1] / 4, mode='bilinear', align_corners=False
            )
            assert_close(map_ - plain, scaled, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    'form', [{}, dict(ORIGINAL, vit_features='final'), LIGHT], ids=['6b', 'original', 'light']
)
def test_three_maps_are_the_coarser_of_four(form: dict) -> None:
    four, three = make(**form).eval(), make(**form, num_maps=3).eval()
    shared = {name: tensor for name, tensor in four.state_dict().items() if name in three.state_dict()}
    missing = set(four.state_dict()) - set(shared)
    assert {name.rpartition('.')[0] for name in missing} == {'spm.fc1', 'up', 'norm1'}
    three.load_state_dict(shared)
    pixels = torch.randn(2, 3, 64, 96)
    features = three(pixels)
    assert features.strides == (8.0, 16.0, 32.0)
    for ours, expected in zip(features.maps, four(pixels).maps[1:], strict=True):
        assert_close(ours, expected)
    # without the finest map nothing of the adapter is idle
    with torch.enable_grad():
        sum((map_ * torch.randn_like(map_)).sum() for map_ in three.train()(pixels).maps).backward()
    assert all(parameter.grad is not None for parameter in three.parameters())


@torch.no_grad()
def test_blocks_left_out_and_run_twice_are_told_and_run_so() -> None:
    with pytest.warns(UserWarning, match='block 1 runs 0 times, block 3 runs 2 times; groups usually run'):
        adapter = make(interactions=((0, 0), (2, 3), (3, 3))).eval()
    for interaction in adapter.interactions:
        nn.init.zeros_(interaction.injector.gamma)
    pixels = torch.randn(1, 3, 32, 32)
    tokens, grid = adapter.vit.embed(pixels)
    for block in (0, 2, 3, 3):
        tokens = adapter.vit.encoder.layers[block](tokens, grid)
    assert_close(adapter(pixels).tokens, tokens)


@pytest.mark.parametrize('size', [(32, 32), (64, 64), (96, 32), (128, 160)])
def test_any_multiple_of_32_and_the_stored_positions_at_their_own_size(size: tuple[int, int]) -> None:
    adapter = make().eval()
    with torch.no_grad():
        maps = adapter(torch.randn(2, 3, *size)).maps
        tokens, grid = adapter.vit.embed(torch.zeros(1, 3, *size))
    assert [tuple(map_.shape[2:]) for map_ in maps] == [
        (size[0] // stride, size[1] // stride) for stride in (4, 8, 16, 32)
    ]
    embeddings = adapter.vit.embeddings
    if size == (64, 64):
        expected = embeddings.position_embedding[:, 1:] + embeddings.patch_embedding.bias
        assert torch.equal(tokens, expected)
    assert grid == (size[0] // 16, size[1] // 16)


@pytest.mark.parametrize('form', [{}, ORIGINAL, LIGHT], ids=['6b', 'original', 'light'])
def test_recomputation_changes_no_gradient(form: dict) -> None:
    torch.manual_seed(0)
    pixels, gradients = torch.randn(2, 3, 64, 64), []
    for recompute in (False, True):
        vit = dict(gradient_checkpointing=recompute)
        adapter = make(vit, gradient_checkpointing=recompute, **form).train()
        maps = adapter(pixels).maps
        sum((map_ * map_.detach().roll(1, 1)).sum() for map_ in maps).backward()
        gradients.append({name: parameter.grad for name, parameter in adapter.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient, msg=name)


def test_recomputation_keeps_less_for_the_backward_pass() -> None:
    def kept(recompute: bool) -> int:
        """Bytes autograd holds between forward and backward, parameters aside."""
        adapter = make(
            dict(gradient_checkpointing=recompute, frozen='all'), gradient_checkpointing=recompute, gamma=0.1
        ).train()
        own = {parameter.data_ptr() for parameter in adapter.parameters()}
        held: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in own:
                held[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            features = adapter(torch.randn(1, 3, 128, 128))
        del features
        return sum(held.values())

    assert kept(recompute=True) < 0.5 * kept(recompute=False)
