"""Operators that would otherwise need compiled code."""

from .deformable_attention import (
    MultiScaleDeformableAttention,
    multi_scale_deformable_attn,
    multi_scale_deformable_attn_pytorch,
)

__all__ = [
    'MultiScaleDeformableAttention',
    'multi_scale_deformable_attn',
    'multi_scale_deformable_attn_pytorch',
]
