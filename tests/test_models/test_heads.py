"""The linear head: published definition, initialisation, fp32 under autocast."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from internvl_mm.models.heads import LinearClsHead
from internvl_mm.utils.errors import ConfigError


def test_batch_norm_then_linear_by_hand() -> None:
    head = LinearClsHead(3, 2).train()
    x = torch.tensor([[1.0, 2.0, -4.0], [3.0, -2.0, 8.0]])
    mean, var = x.mean(0), x.var(0, unbiased=False)
    expected = (x - mean) / (var + 1e-6).sqrt() @ head.linear.weight.T
    assert_close(head(x), expected)
    # momentum 0.1, unbiased running variance
    assert_close(head.norm.running_mean, 0.1 * mean)
    assert_close(head.norm.running_var, 0.9 + 0.1 * x.var(0))


def test_published_settings_and_initialisation() -> None:
    torch.manual_seed(0)
    head = LinearClsHead(640, 500)
    assert head.norm.eps == 1e-6 and head.norm.momentum == 0.1 and head.norm.affine
    assert head.linear.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not head.linear.bias.any()


@pytest.mark.parametrize('num_classes', [0, -1])
def test_no_classes_leaves_out_the_linear_layer(num_classes: int) -> None:
    x = torch.randn(4, 3)
    assert LinearClsHead(3, num_classes, norm=None)(x) is x
    assert_close(LinearClsHead(3, num_classes)(x), nn.BatchNorm1d(3, eps=1e-6)(x))


@pytest.mark.parametrize(
    ('norm', 'kind'), [('batch', nn.BatchNorm1d), ('layer', nn.LayerNorm), (None, nn.Identity)]
)
def test_norms(norm: str | None, kind: type[nn.Module]) -> None:
    assert isinstance(LinearClsHead(3, 2, norm=norm).norm, kind)


def test_stays_fp32_under_autocast() -> None:
    head, x = LinearClsHead(3, 2), torch.tensor([[1.0, 2.0, 1e-3], [1.0, 2.0, 3e-3]])
    plain = head(x)
    statistics = head.norm.running_mean.clone()
    head.norm.reset_running_stats()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert_close(head(x), plain, rtol=0, atol=0)
    assert_close(head.norm.running_mean, statistics, rtol=0, atol=0)


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(ConfigError, match="norm='bath' is unknown: use 'batch', 'layer' or None"):
        LinearClsHead(4, 3, norm='bath')
