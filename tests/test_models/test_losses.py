"""Cross entropy against timm's two losses."""

from __future__ import annotations

import pytest
import torch
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch.testing import assert_close

from internvl_mm.models.losses import ClassificationLoss
from internvl_mm.utils.errors import ConfigError

LOGITS = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_class_indices_equal_timm(smoothing: float) -> None:
    target = torch.tensor([0, 6, 3, 3, 1])
    expected = LabelSmoothingCrossEntropy(smoothing)(LOGITS, target)
    assert_close(ClassificationLoss(smoothing)(LOGITS, target), expected)


def test_soft_targets_equal_timm_and_are_not_smoothed_again() -> None:
    target = torch.randn(5, 7, generator=torch.Generator().manual_seed(1)).softmax(-1)
    assert_close(ClassificationLoss(0.1)(LOGITS, target), SoftTargetCrossEntropy()(LOGITS, target))


def test_half_precision_logits_give_an_fp32_loss() -> None:
    assert ClassificationLoss()(LOGITS.bfloat16(), torch.arange(5)).dtype == torch.float32


@pytest.mark.parametrize('smoothing', [-0.1, 1.0])
def test_smoothing_out_of_range(smoothing: float) -> None:
    with pytest.raises(ConfigError, match=f'label_smoothing={smoothing}'):
        ClassificationLoss(smoothing)
