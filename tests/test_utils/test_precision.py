"""What 'auto' chooses on which hardware and width."""

from __future__ import annotations

import pytest
import torch

from internvl_mm.utils import precision
from internvl_mm.utils.errors import ConfigError
from internvl_mm.utils.precision import CPU_BF16_WIDTH, resolve_precision


@pytest.mark.parametrize(
    ('width', 'name'),
    [(96, 'fp32'), (CPU_BF16_WIDTH - 1, 'fp32'), (CPU_BF16_WIDTH, 'bf16'), (1024, 'bf16'), (None, 'fp32')],
)
def test_auto_on_a_cpu_with_amx_decides_by_width(
    monkeypatch: pytest.MonkeyPatch, width: int, name: str
) -> None:
    monkeypatch.setattr(precision, 'cpu_has_amx', lambda: True)
    assert resolve_precision('auto', device='cpu', width=width).name == name


def test_auto_on_a_cpu_without_amx_is_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: False)
    choice = resolve_precision('auto', device='cpu', width=1024)
    assert choice.dtype == torch.float32
    assert choice.reason == 'this CPU has no AMX-BF16'


@pytest.mark.parametrize(('supported', 'name'), [(True, 'bf16'), (False, 'fp16')])
def test_auto_on_cuda(monkeypatch: pytest.MonkeyPatch, supported: bool, name: str) -> None:
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: supported)
    assert resolve_precision('auto', device='cuda', width=96).name == name


@pytest.mark.parametrize(('asked', 'dtype'), [('fp32', torch.float32), ('bf16', torch.bfloat16)])
def test_a_named_precision_is_kept(asked: str, dtype: torch.dtype) -> None:
    assert resolve_precision(asked, device='cpu', width=96).dtype == dtype


def test_unknown_precision_and_fp16_without_cuda_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="precision='half' is unknown: use 'auto', 'fp32', 'bf16' or 'fp16'"
    ):
        resolve_precision('half', device='cpu')
    with pytest.raises(ConfigError, match='needs a CUDA device'):
        resolve_precision('fp16', device='cpu')
