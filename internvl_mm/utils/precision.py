"""Which number format a run computes in: a wish, the hardware and the model's width to a dtype and a reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from .errors import ConfigError

Precision = Literal['auto', 'fp32', 'bf16', 'fp16']

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}

# Width from which a transformer block trains faster in bf16 autocast than in fp32 on a CPU with AMX. Below it the casts
# and the kernels without AMX code (norms, softmax) cost more than the products save. Measured on 2 cores with AMX-BF16:
# 0.43x the fp32 speed at width 96, 4.1x at width 1024 (one block, 1025 tokens); a straight line through both in
# log-log is 1 at width 232. `python benchmarks/precision_crossover.py` measures the machine it runs on. Without AMX,
# bf16 loses at every width (AVX512-BF16 on 2 cores: 0.80x at width 96, 0.67x at 1024), hence the hardware test.
CPU_BF16_WIDTH = 256


@dataclass(frozen=True)
class Choice:
    """A resolved precision.

    Attributes:
        dtype: Compute dtype; parameters stay fp32.
        reason: One sentence for the log.
    """

    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        """The dtype as configs write it."""
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)


def cpu_has_amx() -> bool:
    """Whether this CPU multiplies bf16 matrices in tile registers (Intel AMX-BF16) and this torch uses them."""
    # torch.cpu.get_capabilities says it publicly, but only in newer releases than we support.
    return torch.cpu._is_amx_tile_supported() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def resolve_precision(precision: Precision, *, device: str, width: int | None = None) -> Choice:
    """Choose the compute dtype.

    Args:
        precision: What the config asks for.
        device: ``'cpu'`` or ``'cuda'``.
        width: Width of the model's widest matrix products; ``None`` when it does not say; 'auto' is
            then fp32 on CPUs.

    Raises:
        ConfigError: An unknown precision, or fp16 without CUDA (it needs loss scaling on CUDA kernels).
    """
    if precision not in ('auto', *DTYPES):
        raise ConfigError(f"precision={precision!r} is unknown: use 'auto', 'fp32', 'bf16' or 'fp16'")
    if precision == 'auto':
        return _auto_cuda() if device == 'cuda' else _auto_cpu(width)
    if precision == 'fp16' and device != 'cuda':
        raise ConfigError(
            "precision='fp16' needs a CUDA device and none is visible: use 'bf16', 'fp32' or 'auto'"
        )
    return Choice(DTYPES[precision], 'asked for by the config')


def _auto_cuda() -> Choice:
    # Emulated bf16 (before Ampere) is correct but slow, fp16 is not.
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Choice(torch.bfloat16, 'this CUDA device computes in bf16')
    return Choice(torch.float16, 'this CUDA device has no bf16')


def _auto_cpu(width: int | None) -> Choice:
    if not cpu_has_amx():
        return Choice(torch.float32, 'this CPU has no AMX-BF16')
    if width is None:
        return Choice(torch.float32, 'the model does not tell its width')
    if width < CPU_BF16_WIDTH:
        return Choice(
            torch.float32, f'width {width} is below {CPU_BF16_WIDTH}, where bf16 starts to pay on CPUs'
        )
    return Choice(torch.bfloat16, f'this CPU has AMX-BF16 and width {width} is at least {CPU_BF16_WIDTH}')
