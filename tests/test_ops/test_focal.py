"""Focal losses against the formula, torchvision and finite differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision

from internvl_mm.ops import SigmoidFocalLoss, SoftmaxFocalLoss, sigmoid_focal_loss, softmax_focal_loss


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_sigmoid_focal_loss_is_the_one_of_torchvision(gamma: float) -> None:
    logits, target = torch.randn(6, 3) * 4, torch.tensor([0, 1, 2, 3, 3, 0])  # 3 is background
    wanted = torchvision.ops.sigmoid_focal_loss(logits, F.one_hot(target, 4)[:, :3].float(), 0.3, gamma)
    torch.testing.assert_close(sigmoid_focal_loss(logits, target, gamma, 0.3, None, 'none'), wanted)
    torch.testing.assert_close(sigmoid_focal_loss(logits, target, gamma, 0.3, None, 'sum'), wanted.sum())
    torch.testing.assert_close(sigmoid_focal_loss(logits, target, gamma, 0.3), wanted.sum() / 6)
    weight = torch.tensor([1.0, 2.0, 3.0])
    rows = torch.tensor([1.0, 2.0, 3.0, 1.0, 1.0, 1.0])[:, None]
    module = SigmoidFocalLoss(gamma, 0.3, weight, 'none')
    torch.testing.assert_close(module(logits, target), wanted * rows)


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_softmax_focal_loss_is_the_formula(gamma: float) -> None:
    logits, target = torch.randn(5, 3) * 4, torch.tensor([0, 1, 2, -1, 1])
    p = logits.softmax(-1)[torch.arange(5), target]
    wanted = -0.3 * (1 - p) ** gamma * p.log() * (target >= 0)
    found = softmax_focal_loss(logits, target, gamma, 0.3, None, 'none')
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    weight = torch.tensor([1.0, 2.0, 3.0])
    weighted = SoftmaxFocalLoss(gamma, 0.3, weight, 'sum')(logits, target)
    torch.testing.assert_close(weighted, (wanted * weight[target]).sum(), atol=1e-5, rtol=1e-4)
    if not gamma:
        torch.testing.assert_close(
            found[:3], 0.3 * F.cross_entropy(logits, target, reduction='none', ignore_index=-1)[:3]
        )


@pytest.mark.parametrize('loss', [sigmoid_focal_loss, softmax_focal_loss])
def test_gradients_are_right_and_finite_at_the_extremes(loss) -> None:
    target = torch.tensor([0, 2, 1])
    for gamma in (0.5, 2.0):
        logits = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x, gamma=gamma: loss(x, target, gamma), logits)
        extreme = torch.tensor([[200.0, -200, 0], [-200, 200, 200], [0, 0, -200]], requires_grad=True)
        loss(extreme, target, gamma).backward()
        assert torch.isfinite(extreme.grad).all()


@pytest.mark.parametrize('loss', [sigmoid_focal_loss, softmax_focal_loss])
def test_half_types_and_no_predictions(loss) -> None:
    logits, target = torch.randn(4, 3).bfloat16(), torch.tensor([0, 1, 2, 2])
    assert torch.equal(loss(logits, target), loss(logits.float(), target).bfloat16())
    empty = torch.zeros(0, 3, requires_grad=True)
    assert loss(empty, target[:0]) == 0
    with pytest.raises(ValueError, match="reduction='avg' is not possible: use 'none', 'mean' or 'sum'"):
        loss(logits, target, reduction='avg')
