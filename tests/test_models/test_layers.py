"""Norms, attention, windows and resampling against formulas written out by hand."""

from __future__ import annotations

import importlib.machinery
import sys
import types

import pytest
import torch
import torch.nn.functional as F

from internvl_mm.models.layers import (
    Attention,
    AttentionPool,
    ChannelLayerNorm,
    Mlp,
    RMSNorm,
    WindowAttention,
    attend,
    attention,
    build_norm,
    resize_patch_kernel,
    resize_position_embedding,
)
from internvl_mm.utils.errors import CheckpointError, ConfigError


def rms_formula(x: torch.Tensor, weight: torch.Tensor, *, fused: bool, eps: float = 1e-6) -> torch.Tensor:
    """The published class and apex's kernel, operation by operation."""
    wide = x.float()
    normalised = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    if fused:
        return (normalised * weight.float()).to(x.dtype)
    return weight * normalised.to(x.dtype)


@pytest.mark.parametrize('rounding', ['pure', 'fused'])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_rms_norm_rounds_as_asked_in_half_precision(rounding: str, dtype: torch.dtype) -> None:
    norm = RMSNorm(96, rounding=rounding).to(dtype)
    torch.nn.init.normal_(norm.weight, mean=1.0)
    x = 3 * torch.randn(64, 96, dtype=dtype)
    got, wanted = norm(x), rms_formula(x, norm.weight, fused=rounding == 'fused')
    other = rms_formula(x, norm.weight, fused=rounding != 'fused')
    assert got.dtype == dtype
    # fp32 sums may come in another order, which moves a rare value over a rounding edge
    assert (got != wanted).float().mean() < 0.005
    assert (got != other).float().mean() > 0.05


def test_rms_norm_in_fp32_is_the_formula_for_both_roundings() -> None:
    x = torch.randn(8, 96)
    for rounding in ('pure', 'fused'):
        norm = RMSNorm(96, 1e-3, rounding=rounding)
        torch.nn.init.normal_(norm.weight)
        torch.testing.assert_close(norm(x), rms_formula(x, norm.weight, fused=False, eps=1e-3))


def test_rms_norm_with_fp32_weight_promotes_half_inputs_only_when_pure() -> None:
    x = torch.randn(2, 8, dtype=torch.bfloat16)
    assert RMSNorm(8, rounding='pure')(x).dtype == torch.float32
    assert RMSNorm(8, rounding='fused')(x).dtype == torch.bfloat16


def test_build_norm_names_what_it_knows() -> None:
    assert isinstance(build_norm('layer_norm', 4, 1e-6), torch.nn.LayerNorm)
    with pytest.raises(ConfigError, match=r"norm_type='batch_norm'.*'rms_norm'.*'layer_norm'"):
        build_norm('batch_norm', 4, 1e-6)
    for eps in (0.0, None, '1e-6'):
        with pytest.raises(ConfigError, match='eps=.* is not possible: it must be a number above 0'):
            build_norm('rms_norm', 4, eps)


def attention_formula(layer: Attention, x: torch.Tensor, *, per_head: bool = False) -> torch.Tensor:
    """Attention written as loops over heads, with the QK norm over all channels jointly, or wrongly per head."""
    q, k, v = (x @ part.T for part in layer.qkv.weight.chunk(3))
    heads = layer.num_heads

    def norm(y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        parts = y.unflatten(-1, (heads, -1)) if per_head else y
        parts = parts * torch.rsqrt(parts.pow(2).mean(-1, keepdim=True) + layer.q_norm.eps)
        return parts.reshape(y.shape) * weight

    q, k = norm(q, layer.q_norm.weight), norm(k, layer.k_norm.weight)
    mixed = []
    for q_head, k_head, v_head in zip(
        q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True
    ):
        scores = q_head @ k_head.transpose(-2, -1) / q_head.shape[-1] ** 0.5
        mixed.append(scores.softmax(-1) @ v_head)
    return layer.proj(torch.cat(mixed, -1))


def qk_normed(cls: type[Attention] = Attention, **options) -> Attention:
    layer = cls(24, 3, qkv_bias=False, qk_norm=dict(norm_type='rms_norm', eps=1e-6), **options)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def test_qk_norm_spans_all_heads_jointly() -> None:
    layer, x = qk_normed(), torch.randn(2, 9, 24)
    torch.testing.assert_close(layer(x, (3, 3)), attention_formula(layer, x), rtol=1e-5, atol=1e-5)
    assert (layer(x, (3, 3)) - attention_formula(layer, x, per_head=True)).abs().max() > 0.05


@pytest.mark.parametrize('kernel', ['sdpa', 'flash'])  # flash falls back to sdpa on a CPU
def test_kernels_agree_with_eager(kernel: str) -> None:
    q, k, v = torch.randn(3, 2, 4, 10, 8)
    torch.testing.assert_close(attend(q, k, v, kernel), attend(q, k, v, 'eager'), rtol=1e-5, atol=1e-6)


def test_flash_attn_is_picked_up_where_it_is_installed(monkeypatch) -> None:
    def flash_attn_func(q, k, v):  # [B, N, H, d], as the package documents it
        parts = (part.transpose(1, 2) for part in (q, k, v))
        return F.scaled_dot_product_attention(*parts).transpose(1, 2)

    with pytest.warns(UserWarning, match="flash-attn is not installed: using 'sdpa'"):
        assert Attention(8, 2, qkv_bias=False, qk_norm=None, kernel='flash').kernel == 'sdpa'
    package = types.ModuleType('flash_attn')
    package.__spec__ = importlib.machinery.ModuleSpec('flash_attn', None)
    package.flash_attn_func = flash_attn_func
    monkeypatch.setitem(sys.modules, 'flash_attn', package)
    assert Attention(8, 2, qkv_bias=False, qk_norm=None, kernel='flash').kernel == 'flash'
    q, k, v = torch.randn(3, 2, 4, 10, 8)
    torch.testing.assert_close(attention._flash(q, k, v), attend(q, k, v, 'eager'), rtol=1e-5, atol=1e-6)


def test_attention_refuses_heads_that_do_not_divide() -> None:
    with pytest.raises(ConfigError, match='hidden_size=24 is not divisible by num_attention_heads=5'):
        Attention(24, 5, qkv_bias=False, qk_norm=None)
    with pytest.raises(ConfigError, match='width 24 is not divisible by num_heads=5'):
        AttentionPool(24, num_heads=5, out_dim=8)


@pytest.mark.parametrize('grid', [(4, 4), (5, 3), (2, 7)])
def test_windows_equal_attention_per_zero_padded_window(grid: tuple[int, int]) -> None:
    layer, side = qk_normed(WindowAttention, window_size=4), 4
    x = torch.randn(2, grid[0] * grid[1], 24)
    maps = x.unflatten(1, grid)
    wanted = torch.zeros_like(maps)
    for top in range(0, grid[0], side):
        for left in range(0, grid[1], side):
            window = torch.zeros(2, side, side, 24)
            piece = maps[:, top : top + side, left : left + side]
            height, width = piece.shape[1:3]
            window[:, :height, :width] = piece
            mixed = attention_formula(layer, window.flatten(1, 2)).unflatten(1, (side, side))
            wanted[:, top : top + side, left : left + side] = mixed[:, :height, :width]
    torch.testing.assert_close(layer(x, grid), wanted.flatten(1, 2), rtol=1e-5, atol=1e-5)


def test_padded_tokens_join_the_softmax_with_value_zero() -> None:
    """One real token among four: its own value counts by its share of the softmax only, it is not copied."""
    layer = WindowAttention(8, 1, window_size=2, qkv_bias=False, qk_norm=None)
    torch.nn.init.zeros_(layer.qkv.weight[:16].data)  # all logits 0
    layer.proj.weight.data, layer.proj.bias.data = torch.eye(8), torch.zeros(8)
    x = torch.randn(1, 1, 8)
    value = x @ layer.qkv.weight[16:].T
    torch.testing.assert_close(layer(x, (1, 1)), value / 4)


@pytest.mark.parametrize('padding', ['tokens', 'projected'])
def test_a_bias_reaches_padded_keys_only_when_tokens_are_padded(padding: str) -> None:
    """One real token in a window of four; all keys and values are the bias, so outputs count the real values."""
    layer = WindowAttention(8, 1, window_size=2, padding=padding, qkv_bias=True, qk_norm=None)
    torch.nn.init.zeros_(layer.qkv.weight.data)
    layer.qkv.bias.data = torch.cat([torch.zeros(16), torch.ones(8)])  # all logits 0, values 1
    layer.proj.weight.data, layer.proj.bias.data = torch.eye(8), torch.zeros(8)
    share = 1.0 if padding == 'tokens' else 0.25
    torch.testing.assert_close(layer(torch.randn(1, 1, 8), (1, 1)), torch.full((1, 1, 8), share))


def test_paddings_agree_without_bias_and_where_nothing_is_padded() -> None:
    for bias, grid in ((False, (5, 7)), (True, (4, 8))):
        layers = [
            WindowAttention(24, 3, window_size=4, padding=padding, qkv_bias=bias, qk_norm=None)
            for padding in ('tokens', 'projected')
        ]
        layers[1].load_state_dict(layers[0].state_dict())
        x = torch.randn(2, grid[0] * grid[1], 24)
        torch.testing.assert_close(layers[0](x, grid), layers[1](x, grid))
    with pytest.raises(ConfigError, match="window_padding='zeros' is unknown"):
        WindowAttention(24, 3, window_size=4, padding='zeros', qkv_bias=True, qk_norm=None)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_channel_norm_is_a_layer_norm_of_every_cell_in_fp32(dtype: torch.dtype) -> None:
    norm = ChannelLayerNorm(6).to(dtype)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    maps = (100 + torch.randn(2, 6, 3, 5)).to(dtype)
    wide = maps.double()
    centred = wide - wide.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    wanted = normed * norm.weight.double()[:, None, None] + norm.bias.double()[:, None, None]
    assert norm(maps).dtype == dtype
    torch.testing.assert_close(
        norm(maps).double(), wanted, rtol=2e-2, atol=2e-2 if dtype == torch.bfloat16 else 1e-4
    )


def test_attention_pool_queries_with_the_mean_of_all_tokens() -> None:
    pool, x = AttentionPool(24, num_heads=3, out_dim=5), torch.randn(2, 7, 24)
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    cross = pool.cross_attn
    q = F.linear(pool.norm1_q(x.mean(1, keepdim=True)), cross.q.weight, cross.q_bias)
    k = F.linear(pool.norm1_k(x), cross.k.weight, cross.k_bias)
    v = F.linear(pool.norm1_v(x), cross.v.weight, cross.v_bias)
    heads = [
        (qh @ kh.transpose(-2, -1) / 8**0.5).softmax(-1) @ vh
        for qh, kh, vh in zip(q.chunk(3, -1), k.chunk(3, -1), v.chunk(3, -1), strict=True)
    ]
    torch.testing.assert_close(pool(x), cross.proj(torch.cat(heads, -1))[:, 0], rtol=1e-5, atol=1e-5)
    assert pool.norm1_q.eps == 1e-5


def test_mlp_uses_the_exact_gelu() -> None:
    mlp, x = Mlp(8, 16), torch.randn(3, 8)
    hidden = mlp.fc1(x)
    exact = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(mlp(x), mlp.fc2(exact), rtol=1e-6, atol=1e-6)


def test_positions_resize_as_torch_bicubic_without_antialias() -> None:
    embedding = torch.randn(1, 1 + 32 * 32, 8)
    maps = embedding[:, 1:].reshape(1, 32, 32, 8).permute(0, 3, 1, 2)
    wanted = F.interpolate(maps, size=(36, 36), mode='bicubic', align_corners=False, antialias=False)
    resized = resize_position_embedding(embedding, (36, 36))
    assert torch.equal(resized[:, :1], embedding[:, :1])
    assert torch.equal(resized[:, 1:], wanted.permute(0, 2, 3, 1).reshape(1, 36 * 36, 8))
    assert resize_position_embedding(embedding, (32, 32)) is embedding


def test_positions_resize_to_a_rectangle_and_keep_their_dtype() -> None:
    embedding = torch.randn(1, 17, 8, dtype=torch.bfloat16)
    wide = resize_position_embedding(embedding, (4, 6))
    assert wide.shape == (1, 25, 8)
    assert wide.dtype == torch.bfloat16


def test_positions_resample_in_the_dtype_asked_for() -> None:
    embedding = torch.randn(1, 17, 8, dtype=torch.bfloat16)
    maps = embedding[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    in_file_dtype = F.interpolate(maps, size=(6, 6), mode='bicubic', align_corners=False)
    got = resize_position_embedding(embedding, (6, 6), dtype=torch.bfloat16)
    assert torch.equal(got[:, 1:], in_file_dtype.flatten(2).transpose(1, 2))


def test_positions_that_form_no_square_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r'\(1, 18, 8\) has 17 patch slots'):
        resize_position_embedding(torch.zeros(1, 18, 8), (4, 4))


def test_patch_kernel_resizes_without_energy_correction() -> None:
    kernel = torch.randn(6, 3, 14, 14)
    wanted = F.interpolate(kernel, size=(16, 16), mode='bicubic', align_corners=False)
    assert torch.equal(resize_patch_kernel(kernel, 16), wanted)
    assert resize_patch_kernel(kernel, 14) is kernel
    flat = torch.ones(1, 3, 14, 14)
    assert resize_patch_kernel(flat, 16).sum() / flat.sum() == pytest.approx((16 / 14) ** 2, rel=1e-5)
