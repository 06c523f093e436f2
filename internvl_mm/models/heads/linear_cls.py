"""The linear classification head of probing and fine-tuning."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from internvl_mm.models.convert.probes import HEAD_NAMES, load_part
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import ConfigError
from internvl_mm.utils.paths import ExistingPath


@MODELS.register_module()
class LinearClsHead(nn.Module):
    """Batch norm, then a linear layer, ``[B, in_dim]`` to logits ``[B, num_classes]``.

    Probes need the affine batch norm: raw features of InternViT are large and the published run without it did not
    learn. It computes in fp32 also under autocast, so that the running statistics are not rounded. On many
    processes the strategies turn it into one over all of them, as published.

    Args:
        in_dim: Width of the features.
        num_classes: Number of classes; 0 or less leaves out the linear layer (as published).
        norm: ``'batch'`` for probes on frozen features, ``'layer'`` or ``None`` for fine-tuning.
        eps: Floor of the variance.
        pretrained: A published probe to start from, a file with ``norm.*`` and ``head.*``.

    Source: InternVL ``classification/models/intern_vit_6b.py`` (``norm``, ``head``; SyncBatchNorm, eps 1e-6).
    """

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        norm: Literal['batch', 'layer'] | None = 'batch',
        eps: float = 1e-6,
        pretrained: ExistingPath | None = None,
    ):
        super().__init__()
        self.in_dim, self.num_classes, self.pretrained = in_dim, num_classes, pretrained
        norms = {'batch': nn.BatchNorm1d, 'layer': nn.LayerNorm}
        if norm is not None and norm not in norms:
            raise ConfigError(f"norm={norm!r} is unknown: use 'batch', 'layer' or None")
        self.norm = norms[norm](in_dim, eps=eps) if norm else nn.Identity()
        if num_classes <= 0:
            self.linear = nn.Identity()
            return
        # `head` in published files, see HEAD_NAMES.
        self.linear = nn.Linear(in_dim, num_classes)
        # As published: so small that the first logits are near 0.
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def init_weights(self) -> None:
        """Load ``pretrained``, if given."""
        if self.pretrained is not None:
            load_part(self, self.pretrained, HEAD_NAMES)

    def forward(self, features: Tensor) -> Tensor:
        """Classify ``[B, in_dim]``."""
        # Of the weights, fp32 unless the whole model was cast; without any, as the features come.
        dtype = next((parameter.dtype for parameter in self.parameters()), features.dtype)
        with torch.autocast(features.device.type, enabled=False):
            return self.linear(self.norm(features.to(dtype)))
