"""Tokens to one vector per image: the published probe features and the two plain ones.

Shape letters: B batch, N patches, D width. Tokens arrive un-normalised from the last block.
Source: InternVL ``classification/models/intern_vit_6b.py`` (``cls_target``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from internvl_mm.models.convert.probes import POOL_NAMES, load_part
from internvl_mm.models.layers import AttentionPool
from internvl_mm.registry import MODELS
from internvl_mm.structures import VisionFeatures
from internvl_mm.utils.paths import ExistingPath

from .base import PoolingNeck


@MODELS.register_module()
class ClsToken(PoolingNeck):
    """The class token, ``[B, D]``.

    Args:
        dim: Width D of the tokens.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.out_dim = dim

    def forward(self, features: VisionFeatures) -> Tensor:
        """See :class:`PoolingNeck`."""
        # [B, D] in fp32: heads, and features kept on disk for probes, count with more digits than the backbone.
        return features.pooled.float()


@MODELS.register_module()
class MeanPatch(PoolingNeck):
    """The mean of the patch tokens, class token excluded, ``[B, D]``.

    Args:
        dim: Width D of the tokens.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.out_dim = dim

    def forward(self, features: VisionFeatures) -> Tensor:
        """See :class:`PoolingNeck`."""
        # fp32, so that a half mean is not rounded before the batch norm of the head.
        return features.patches.mean(dim=1, dtype=torch.float32)


@MODELS.register_module()
class ClsPatchConcat(PoolingNeck):
    """Class token, then the mean of the patch tokens, ``[B, 2D]``: the published ``cls_patch_concat``.

    Args:
        dim: Width D of the tokens.
    """

    def __init__(self, dim: int):
        super().__init__()
        # 6,400 for the 6B, which published heads take.
        self.out_dim = 2 * dim

    def forward(self, features: VisionFeatures) -> Tensor:
        """See :class:`PoolingNeck`."""
        # [B, D] over the N patches; the order, class token first, is that of the published heads.
        mean = features.patches.mean(dim=1, dtype=torch.float32)
        return torch.cat([features.pooled.float(), mean], dim=-1)


@MODELS.register_module()
class ClsPatchProjector(ClsPatchConcat):
    """:class:`ClsPatchConcat`, layer norm and a linear map to another space, ``[B, out_dim]``.

    For contrastive training of small models, which learn with it long before they learn with attention pooling.

    Args:
        dim: Width D of the tokens.
        out_dim: Width of the joint space.
    """

    def __init__(self, dim: int, *, out_dim: int):
        super().__init__(dim)
        self.norm = nn.LayerNorm(2 * dim)
        self.proj = nn.Linear(2 * dim, out_dim, bias=False)
        self.out_dim = out_dim

    def forward(self, features: VisionFeatures) -> Tensor:
        """See :class:`PoolingNeck`."""
        return self.proj(self.norm(super().forward(features)))  # [B, 2D] to [B, out_dim]


@MODELS.register_module()
class AttentionPooling(PoolingNeck):
    """A trainable attention-pooling block over all tokens, ``[B, out_dim]``: the published ``attention_pooling``.

    Args:
        dim: Width D of the tokens.
        num_heads: 25 in the published probe; must divide ``dim``.
        out_dim: Width of the result; ``None`` keeps ``dim``, as published.
    """

    def __init__(self, dim: int, *, num_heads: int = 25, out_dim: int | None = None):
        super().__init__()
        self.out_dim = out_dim or dim
        self.pool = AttentionPool(dim, num_heads=num_heads, out_dim=self.out_dim)

    def forward(self, features: VisionFeatures) -> Tensor:
        """See :class:`PoolingNeck`."""
        return self.pool(features.tokens)  # [B, 1+N, D] to [B, out_dim]


@MODELS.register_module()
class ClipProjector(AttentionPooling):
    """The frozen image projector of the contrastive model, ``[B, 768]``: the published ``clip_projector``.

    Only the original 224px checkpoint carries its weights (keys ``clip_projector.*``).

    Args:
        dim: Width D of the tokens.
        num_heads: 16 in the published projector; must divide ``dim``.
        out_dim: Width of the contrastive space.
        pretrained: The original 224px checkpoint, a file or folder with the ``clip_projector.*`` tensors.
    """

    def __init__(
        self, dim: int, *, num_heads: int = 16, out_dim: int = 768, pretrained: ExistingPath | None = None
    ):
        super().__init__(dim, num_heads=num_heads, out_dim=out_dim)
        self.pretrained = pretrained
        # The published probe trains the head alone; trained, it would be AttentionPooling.
        self.requires_grad_(False)

    def init_weights(self) -> None:
        """Load ``pretrained``, if given."""
        if self.pretrained is not None:
            load_part(self, self.pretrained, POOL_NAMES)

    @torch.no_grad()
    def forward(self, features: VisionFeatures) -> Tensor:
        """See :class:`PoolingNeck`; no gradient reaches the backbone."""
        return super().forward(features)
