"""Deformable convolution against plain convolution, a loop and finite differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from internvl_mm.ops import (
    DeformConv2d,
    DeformConv2dPack,
    MaskedConv2d,
    ModulatedDeformConv2dPack,
    deform_conv2d,
    masked_conv2d,
    modulated_deform_conv2d,
)
from internvl_mm.utils.errors import ConfigError


def zero_padded(image: Tensor, y: float, x: float) -> Tensor:
    top, left = int(y // 1), int(x // 1)
    out = image.new_zeros(image.shape[0])
    for row, dy in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, dx in ((left, 1 - (x - left)), (left + 1, x - left)):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                out = out + image[:, row, column] * dy * dx
    return out


def loop(image: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *, stride: int, padding: int) -> Tensor:
    """One deform group, one group, one image ``[C, H, W]``; offsets as (y, x) per kernel cell, row by row."""
    kernel, (height, width) = weight.shape[-1], offset.shape[-2:]
    out = weight.new_zeros(weight.shape[0], height, width)
    for i in range(height):
        for j in range(width):
            for cell in range(kernel * kernel):
                y = i * stride - padding + cell // kernel + offset[2 * cell, i, j].item()
                x = j * stride - padding + cell % kernel + offset[2 * cell + 1, i, j].item()
                sample = zero_padded(image, y, x) * mask[cell, i, j]
                out[:, i, j] += weight[:, :, cell // kernel, cell % kernel] @ sample
    return out


def test_function_is_the_loop() -> None:
    image, weight = torch.randn(1, 2, 6, 7), torch.randn(3, 2, 3, 3)
    offset, mask = torch.randn(1, 18, 3, 4) * 2, torch.rand(1, 9, 3, 4)
    wanted = loop(image[0], offset[0], mask[0], weight, stride=2, padding=1)
    found = modulated_deform_conv2d(image, offset, mask, weight, None, 2, 1)
    torch.testing.assert_close(found[0], wanted, atol=1e-5, rtol=1e-5)
    plain = loop(image[0], offset[0], torch.ones(9, 3, 4), weight, stride=2, padding=1)
    torch.testing.assert_close(deform_conv2d(image, offset, weight, 2, 1)[0], plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('deform_groups', [1, 2])
def test_without_offsets_it_is_a_convolution(groups: int, deform_groups: int) -> None:
    image, weight, bias = torch.randn(2, 4, 9, 8), torch.randn(6, 4 // groups, 3, 3), torch.randn(6)
    settings = dict(stride=2, padding=2, dilation=2, groups=groups)
    wanted = F.conv2d(image, weight, bias, **settings)
    offset = torch.zeros(2, deform_groups * 18, *wanted.shape[2:])
    mask = torch.ones(2, deform_groups * 9, *wanted.shape[2:])
    found = modulated_deform_conv2d(
        image, offset, mask, weight, bias, **settings, deform_groups=deform_groups
    )
    torch.testing.assert_close(found, wanted)
    found = deform_conv2d(image, offset, weight, **settings, deform_groups=deform_groups)
    torch.testing.assert_close(found, wanted - bias[:, None, None])


def test_gradients() -> None:
    parts = (
        torch.randn(1, 2, 4, 4),
        torch.randn(1, 18, 4, 4),
        torch.rand(1, 9, 4, 4),
        torch.randn(2, 2, 3, 3),
    )
    parts = tuple(part.double().requires_grad_() for part in parts)
    assert torch.autograd.gradcheck(lambda *given: modulated_deform_conv2d(*given, None, 1, 1), parts)


def test_half_types_and_no_images() -> None:
    image, offset, weight = torch.randn(2, 2, 5, 5), torch.randn(2, 18, 5, 5), torch.randn(3, 2, 3, 3)
    half = deform_conv2d(image.bfloat16(), offset, weight, 1, 1)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, deform_conv2d(image.bfloat16().float(), offset, weight, 1, 1).bfloat16())
    assert deform_conv2d(image[:0], offset[:0], weight, 1, 1).shape == (0, 3, 5, 5)


def test_modules_of_mmcv_run_on_it() -> None:
    image = torch.randn(2, 4, 6, 6)
    pack = DeformConv2dPack(4, 8, 3, padding=1)
    # offsets begin at zero
    torch.testing.assert_close(pack(image), F.conv2d(image, pack.weight, padding=1), atol=1e-5, rtol=1e-5)
    modulated = ModulatedDeformConv2dPack(4, 8, 3, padding=1)
    wanted = F.conv2d(image, modulated.weight, padding=1) / 2  # sigmoid(0)
    torch.testing.assert_close(modulated(image), wanted, atol=1e-5, rtol=1e-5)
    modulated(image).sum().backward()
    assert modulated.conv_offset.weight.grad.any()
    # a map smaller than the kernel
    small = DeformConv2d(4, 8, 3, padding=1)(image[:, :, :2, :2], torch.zeros(2, 18, 2, 2))
    assert small.shape == (2, 8, 2, 2)


def test_masked_convolution_is_zero_where_masked() -> None:
    layer, image = MaskedConv2d(3, 2, 3, padding=1), torch.randn(1, 3, 5, 6)
    mask = torch.rand(1, 5, 6).round()
    found = layer(image, mask)
    assert torch.equal(
        found, torch.where(mask[:, None] > 0, F.conv2d(image, layer.weight, layer.bias, padding=1), 0)
    )
    torch.testing.assert_close(layer(image), layer(image, torch.ones(1, 5, 6)))
    found.sum().backward()
    assert layer.weight.grad.any()


def test_mistakes_are_told() -> None:
    image, offset, weight = torch.randn(1, 4, 5, 5), torch.randn(1, 18, 5, 5), torch.randn(3, 2, 3, 3)
    with pytest.raises(ValueError, match=r'do not agree with groups=1, deform_groups=1'):
        deform_conv2d(image, offset, weight, 1, 1)
    with pytest.raises(ValueError, match=r'do not agree with groups=2, deform_groups=2'):
        deform_conv2d(image, offset, weight, 1, 1, 1, 2, 2)
    with pytest.raises(ConfigError, match='bias=True is not possible in deform_conv2d'):
        deform_conv2d(image, offset, weight, bias=True)
    with pytest.raises(ConfigError, match='stride=2 is not possible in masked_conv2d'):
        masked_conv2d(image, torch.ones(1, 5, 5), weight, None, stride=2)
    with pytest.raises(ValueError, match=r'the mask is \[1, 5, 5\] but the output \[1, 3, 3, 3\]'):
        masked_conv2d(image, torch.ones(1, 5, 5), torch.randn(3, 4, 3, 3), None)
