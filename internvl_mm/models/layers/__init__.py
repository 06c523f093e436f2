"""Layers shared by every architecture; each is defined once."""

from .attention import Attention, AttentionKernel, WindowAttention, WindowPadding, attend, flash_installed
from .attention_pool import AttentionPool
from .initial import draw_convolutions
from .mlp import Mlp
from .norm import ChannelLayerNorm, NormType, RMSNorm, Rounding, build_norm
from .resample import resize_patch_kernel, resize_position_embedding

__all__ = [
    'Attention',
    'AttentionKernel',
    'AttentionPool',
    'ChannelLayerNorm',
    'Mlp',
    'NormType',
    'RMSNorm',
    'Rounding',
    'WindowAttention',
    'WindowPadding',
    'attend',
    'build_norm',
    'draw_convolutions',
    'flash_installed',
    'resize_patch_kernel',
    'resize_position_embedding',
]
