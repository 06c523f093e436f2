"""A tiny ViT-Adapter in its forms."""

from __future__ import annotations

import torch
from torch import nn

from internvl_mm.models.backbones import InternViT, ViTAdapter
from internvl_mm.models.backbones.vit_adapter_parts import (
    InteractionSettings,
)

VIT = dict(
    hidden_size=16,
    num_hidden_layers=4,
    num_attention_heads=2,
    intermediate_size=24,
    image_size=64,
    patch_size=16,
    use_class_token=False,
)
SIZES = dict(
    interactions=((0, 0), (1, 1), (2, 2), (3, 3)),
    conv_inplane=4,
    deform_num_heads=2,
    deform_ratio=0.5,
)
ORIGINAL = dict(norm='batch', eps=1e-6, vit_features='groups')
LIGHT = dict(
    norm='batch', interactions=((0, 3),), ffn_ratio=None, extra_extractors=0, vit_features=None, eps=1e-6
)


def shuffled(module: nn.Module) -> nn.Module:
    """No parameter at its neutral start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.3 * noise + (1.0 if 'norm' in name and name.endswith('weight') else 0.0))
    return module


def make(vit: dict | None = None, **settings) -> ViTAdapter:
    backbone = InternViT(**{**VIT, **(vit or {})})
    return shuffled(ViTAdapter(backbone=backbone, **{**SIZES, **settings}))


def settings(**changes) -> InteractionSettings:
    values = dict(
        dim=8,
        heads=2,
        points=2,
        ratio=0.5,
        ffn_ratio=0.5,
        drop_path=0.0,
        eps=1e-5,
        gamma=0.0,
        recompute=False,
    )
    return InteractionSettings(**{**values, **changes})


def numel(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
