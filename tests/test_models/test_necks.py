"""Poolings: definitions, widths, published parameter counts."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from internvl_mm.models.necks import (
    AttentionPooling,
    ClipProjector,
    ClsPatchConcat,
    ClsToken,
    MeanPatch,
    PoolingNeck,
)
from internvl_mm.registry import MODELS
from internvl_mm.structures import VisionFeatures

NECKS = [ClsToken, MeanPatch, ClsPatchConcat, AttentionPooling, ClipProjector]


def features(dim: int = 12, dtype: torch.dtype = torch.float32) -> VisionFeatures:
    generator = torch.Generator().manual_seed(0)
    return VisionFeatures(tokens=torch.randn(2, 1 + 6, dim, generator=generator).to(dtype), grid=(2, 3))


def make(neck: type[PoolingNeck], dim: int = 12) -> PoolingNeck:
    options = dict(num_heads=4) if issubclass(neck, AttentionPooling) else {}
    return neck(dim, **options)


@pytest.mark.parametrize('neck', NECKS)
def test_every_neck_keeps_the_contract(neck: type[PoolingNeck]) -> None:
    built = make(neck)
    assert built(features()).shape == (2, built.out_dim)
    assert MODELS.get(neck.__name__) is neck


def test_concat_is_the_class_token_then_the_mean_without_it() -> None:
    tokens = features().tokens
    pooled = ClsPatchConcat(12)(features())
    assert_close(pooled[:, :12], tokens[:, 0])
    assert_close(pooled[:, 12:], tokens[:, 1:].sum(1) / 6)
    assert_close(pooled, torch.cat([ClsToken(12)(features()), MeanPatch(12)(features())], dim=1))


@pytest.mark.parametrize('neck', [ClsToken, MeanPatch, ClsPatchConcat])
def test_half_precision_tokens_are_averaged_in_fp32(neck: type[PoolingNeck]) -> None:
    half = features(dtype=torch.bfloat16)
    exact = VisionFeatures(tokens=half.tokens.float(), grid=half.grid)
    pooled = neck(12)(half)
    assert pooled.dtype == torch.float32
    assert_close(pooled, neck(12)(exact))


def test_attention_pooling_equals_torch_multi_head_attention() -> None:
    """The independent implementation with the same weights."""
    torch.manual_seed(0)
    neck = AttentionPooling(12, num_heads=3, out_dim=8).double()
    attention, tokens = neck.pool.cross_attn, features(dtype=torch.float64).tokens
    peer = torch.nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for bias in (attention.q_bias, attention.k_bias, attention.v_bias):
            bias.normal_()
        peer.in_proj_weight.copy_(torch.cat([attention.q.weight, attention.k.weight, attention.v.weight]))
        peer.in_proj_bias.copy_(torch.cat([attention.q_bias, attention.k_bias, attention.v_bias]))
        peer.out_proj.weight.copy_(torch.eye(12))
    query, normed = tokens.mean(1, keepdim=True), torch.nn.functional.layer_norm(tokens, (12,), eps=1e-5)
    query = torch.nn.functional.layer_norm(query, (12,), eps=1e-5)
    expected = attention.proj(peer(query, normed, normed)[0].squeeze(1))
    assert_close(neck(VisionFeatures(tokens=tokens, grid=(2, 3))), expected)


def test_published_sizes() -> None:
    with torch.device('meta'):
        probe, projector = AttentionPooling(3200), ClipProjector(3200)
    assert probe.out_dim == 3200 and probe.pool.cross_attn.num_heads == 25
    assert projector.out_dim == 768 and projector.pool.cross_attn.num_heads == 16
    assert sum(p.numel() for p in projector.parameters()) == 33_207_168
    assert probe.pool.norm1_q.eps == projector.pool.norm1_v.eps == 1e-5


def test_projector_is_frozen() -> None:
    neck = make(ClipProjector)
    tokens = features().tokens.requires_grad_()
    assert not neck(VisionFeatures(tokens=tokens, grid=(2, 3))).requires_grad
    assert not any(parameter.requires_grad for parameter in neck.parameters())


def test_wrong_head_count_names_both_numbers() -> None:
    with pytest.raises(ValueError, match='width 12 is not divisible by num_heads=25'):
        AttentionPooling(12)
