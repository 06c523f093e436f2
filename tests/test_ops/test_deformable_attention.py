"""Deformable attention against a loop over samples, mmcv's module and finite differences."""

from __future__ import annotations

import math

import mmcv.ops
import pytest
import torch
from torch import Tensor

from internvl_mm.ops import (
    MultiScaleDeformableAttention,
    multi_scale_deformable_attn,
    multi_scale_deformable_attn_pytorch,
)
from internvl_mm.utils.errors import ConfigError

SHAPES = [(4, 6), (2, 3), (1, 1)]
KEYS = sum(height * width for height, width in SHAPES)


def zero_padded(image: Tensor, y: float, x: float) -> Tensor:
    """Bilinear sample of ``[h, w, d]`` at cells (y, x); cells outside are zero."""
    top, left = math.floor(y), math.floor(x)
    out = image.new_zeros(image.shape[-1])
    for row, dy in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, dx in ((left, 1 - (x - left)), (left + 1, x - left)):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                out = out + image[row, column] * dy * dx
    return out


def loop(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    batch, queries, heads, levels, points = weights.shape
    out = value.new_zeros(batch, queries, heads, value.shape[-1])
    levels_of_value = value.split([height * width for height, width in SHAPES], dim=1)
    for b in range(batch):
        for q in range(queries):
            for h in range(heads):
                for level in range(levels):
                    image = levels_of_value[level][b, :, h].unflatten(0, SHAPES[level])
                    for p in range(points):
                        x, y = locations[b, q, h, level, p].tolist()
                        sample = zero_padded(image, y * image.shape[0] - 0.5, x * image.shape[1] - 0.5)
                        out[b, q, h] += weights[b, q, h, level, p] * sample
    return out.flatten(2)


def inputs(dtype: torch.dtype = torch.float32, queries: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Values of 2 heads 3 wide, locations from well outside to well outside, weights."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, KEYS, 2, 3, generator=generator, dtype=dtype)
    locations = torch.rand(2, queries, 2, len(SHAPES), 4, 2, generator=generator, dtype=dtype) * 2 - 0.5
    weights = torch.rand(2, queries, 2, len(SHAPES), 4, generator=generator, dtype=dtype)
    return value, locations, weights


def test_function_is_the_loop() -> None:
    value, locations, weights = inputs(torch.float64)
    found = multi_scale_deformable_attn(value, SHAPES, locations, weights)
    torch.testing.assert_close(found, loop(value, locations, weights))
    assert torch.equal(
        found, multi_scale_deformable_attn_pytorch(value, torch.tensor(SHAPES), locations, weights)
    )


def test_gradients_of_the_function() -> None:
    value, locations, weights = (part.requires_grad_() for part in inputs(torch.float64, queries=2))
    assert torch.autograd.gradcheck(
        lambda *parts: multi_scale_deformable_attn(parts[0], SHAPES, *parts[1:]), (value, locations, weights)
    )


def test_half_values_are_sampled_at_exact_locations() -> None:
    value, locations, weights = inputs()
    half = value.bfloat16()
    found = multi_scale_deformable_attn(half, SHAPES, locations, weights)
    assert found.dtype == torch.bfloat16
    assert torch.equal(
        found, multi_scale_deformable_attn(half.float(), SHAPES, locations, weights).bfloat16()
    )


def test_no_queries_and_no_images() -> None:
    value, locations, weights = inputs()
    value.requires_grad_()
    out = multi_scale_deformable_attn(value, SHAPES, locations[:, :0], weights[:, :0])
    assert out.shape == (2, 0, 6)
    out.sum().backward()
    assert not value.grad.any()
    assert multi_scale_deformable_attn(value[:0], SHAPES, locations[:0], weights[:0]).shape == (0, 5, 6)


@pytest.mark.parametrize('ratio', [1.0, 0.5])
@pytest.mark.parametrize('box', [False, True])
def test_module_is_the_one_of_mmcv(ratio: float, box: bool) -> None:
    ours = MultiScaleDeformableAttention(16, 4, len(SHAPES), 2, ratio=ratio)
    theirs = mmcv.ops.MultiScaleDeformableAttention(
        16, 4, len(SHAPES), 2, dropout=0.0, batch_first=True, value_proj_ratio=ratio
    )
    for name, parameter in ours.state_dict().items():
        if name.endswith('bias'):
            # both begin with the same directions and zeros
            assert torch.equal(parameter, theirs.state_dict()[name])
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    query, value = torch.randn(2, 5, 16), torch.randn(2, KEYS, 16)
    references = torch.rand(2, 5, len(SHAPES), 4 if box else 2)
    padding = torch.rand(2, KEYS) > 0.7
    starts = torch.tensor([0, 24, 30])
    found = ours(query, references, value, torch.tensor(SHAPES), starts, padding)
    wanted = theirs(
        query,
        value=value,
        identity=torch.zeros_like(query),
        key_padding_mask=padding,
        reference_points=references,
        spatial_shapes=torch.tensor(SHAPES),
        level_start_index=starts,
    )
    torch.testing.assert_close(found, wanted)
    assert found.shape == (2, 5, 16)


def test_published_shapes_of_the_6b_adapter() -> None:
    attention = MultiScaleDeformableAttention(3200, 25, 1, 4, ratio=0.25)
    assert {name: tuple(parameter.shape) for name, parameter in attention.named_parameters()} == {
        'sampling_offsets.weight': (200, 3200),
        'sampling_offsets.bias': (200,),
        'attention_weights.weight': (100, 3200),
        'attention_weights.bias': (100,),
        'value_proj.weight': (800, 3200),
        'value_proj.bias': (800,),
        'output_proj.weight': (3200, 800),
        'output_proj.bias': (3200,),
    }


def test_one_reference_holds_for_all_images_and_levels() -> None:
    attention = MultiScaleDeformableAttention(8, 2, len(SHAPES), 4)
    query, value, references = torch.randn(2, 5, 8), torch.randn(2, KEYS, 8), torch.rand(1, 5, 1, 2)
    spread = references.expand(2, -1, len(SHAPES), -1)
    assert torch.equal(attention(query, references, value, SHAPES), attention(query, spread, value, SHAPES))


def test_it_starts_by_averaging_along_one_direction_per_head() -> None:
    attention = MultiScaleDeformableAttention(8, 4, 1, 2)
    steps = attention.sampling_offsets.bias.detach().view(4, 2, 2)
    directions = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    torch.testing.assert_close(steps, torch.stack([directions, 2 * directions], dim=1), atol=1e-6, rtol=0)
    assert not attention.attention_weights.bias.any() and not attention.sampling_offsets.weight.any()


def test_bf16_and_autocast_train_every_parameter() -> None:
    query, value, references = torch.randn(2, 5, 8), torch.randn(2, KEYS, 8), torch.rand(2, 5, 1, 2)
    attention = MultiScaleDeformableAttention(8, 2, len(SHAPES), 4)
    torch.nn.init.normal_(attention.attention_weights.weight)
    with torch.autocast('cpu', torch.bfloat16):
        out = attention(query, references, value, SHAPES)
    assert out.dtype == torch.bfloat16
    exact = attention(query, references, value, SHAPES)
    torch.testing.assert_close(out.float(), exact, atol=0.05, rtol=0.05)
    out.square().sum().backward()
    assert all(parameter.grad.any() for parameter in attention.parameters())
    assert (
        attention.bfloat16()(query.bfloat16(), references, value.bfloat16(), SHAPES).dtype == torch.bfloat16
    )


def test_mistakes_are_told() -> None:
    with pytest.raises(
        ConfigError, match=r'ratio=0.25 of embed_dims=32 gives values 8 wide, which num_heads=3'
    ):
        MultiScaleDeformableAttention(32, 3, ratio=0.25)
    attention = MultiScaleDeformableAttention(8, 2, 3, 4)
    query, value = torch.randn(1, 5, 8), torch.randn(1, KEYS, 8)
    with pytest.raises(ValueError, match=r'31 cells, but there are 30 values'):
        attention(query, torch.rand(1, 5, 1, 2), value[:, 1:], SHAPES)
    with pytest.raises(ValueError, match='2 spatial shapes were given to attention with num_levels=3'):
        attention(query, torch.rand(1, 5, 1, 2), value, SHAPES[:2])
    with pytest.raises(ValueError, match='reference points have 3 numbers each'):
        attention(query, torch.rand(1, 5, 1, 3), value, SHAPES)
