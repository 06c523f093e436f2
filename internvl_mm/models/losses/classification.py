"""Cross entropy to a class or to a mixture of classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from internvl_mm.registry import MODELS
from internvl_mm.utils.checks import check_shares


@MODELS.register_module()
class ClassificationLoss(nn.Module):
    """Cross entropy, in fp32, averaged over the batch.

    The kind of target decides: class indices ``[B]`` are smoothed here, soft targets ``[B, C]`` (Mixup, CutMix) are
    taken as they are, because mixing has smoothed them already.

    Args:
        label_smoothing: Share of the target spread evenly over all classes, 0 to 1; for class indices only.
    """

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__()
        check_shares(label_smoothing=label_smoothing)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``[B, C]`` against ``[B]`` integers or ``[B, C]`` probabilities."""
        # Integers are classes, floats are shares.
        smoothing = 0.0 if target.is_floating_point() else self.label_smoothing
        return F.cross_entropy(logits.float(), target, label_smoothing=smoothing)
