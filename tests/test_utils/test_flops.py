"""Operation counts against published ones, and the rate of this machine."""

from __future__ import annotations

import pytest
import torch

from internvl_mm.utils.flops import PEAK_FLOPS, measured_matmul_rate, peak_flops, vit_flops


@pytest.mark.parametrize(
    ('shape', 'tera'),
    [
        (dict(num_layers=24, width=1024, mlp=4096, grid=(32, 32)), 0.724),
        (dict(num_layers=48, width=3200, mlp=12800, grid=(16, 16)), 3.07),
        (dict(num_layers=45, width=3200, mlp=12800, grid=(32, 32)), 11.9),
        (dict(num_layers=48, width=3200, mlp=12800, grid=(36, 36)), 16.3),
    ],
)
def test_vit_flops_of_published_models(shape: dict, tera: float) -> None:
    assert vit_flops(**shape) / 1e12 == pytest.approx(tera, rel=4e-3)


def test_vit_flops_near_timms_count() -> None:
    # timm lists 362.05 GMACs for vit_intern300m_patch14_448; it also counts norms.
    assert vit_flops(24, 1024, 4096, grid=(32, 32)) / 2 == pytest.approx(362.05e9, rel=1e-3)


def test_vit_flops_counts_the_class_token() -> None:
    with_token = vit_flops(2, 8, 16, grid=(2, 3), patch=4)
    without = vit_flops(2, 8, 16, grid=(2, 3), patch=4, class_token=False)
    assert without == 2 * (2 * (6 * (4 * 64 + 2 * 128) + 2 * 36 * 8) + 6 * 3 * 16 * 8)
    assert with_token > without


def test_peak_is_known_for_listed_gpus_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_flops('cpu', torch.float32) is None
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'NVIDIA H200')
    assert peak_flops('cuda', torch.bfloat16) == PEAK_FLOPS['H200'][torch.bfloat16] == 989e12
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'Some new card')
    assert peak_flops('cuda', torch.bfloat16) is None


def test_measured_rate_is_plausible() -> None:
    assert 1e9 < measured_matmul_rate(torch.float32, seconds=0.05) < 1e14
