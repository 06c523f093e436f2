"""Published folders with quantised language models, read back to plain weights: AWQ in 4 bits, bitsandbytes in 8.

Both are plain arithmetic, done here without their libraries and without a GPU: a quantised weight is a row of whole
numbers and a scale. What comes out is what their kernels compute with; memory is that of the unquantised model.

Shape letters: I input and O output features of a linear layer, G input features that share a scale.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor
from transformers import PreTrainedConfig

from internvl_mm.utils.errors import CheckpointError

from .files import open_weights

# Where AWQ's GEMM layout keeps the 8 numbers of an int32, lowest four bits first: outputs 0, 2, 4, 6, 1, 3, 5, 7.
_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
_AWQ = ('qweight', 'qzeros', 'scales')
# bitsandbytes: int8 rows, and the largest absolute value of each row.
_INT8 = ('weight', 'SCB')
_INT8_FORMAT = 'weight_format'


def unpack_awq(packed: Tensor, bits: int = 4) -> Tensor:
    """Whole numbers of AWQ's GEMM packing.

    Args:
        packed: int32 ``[n, O·bits/32]``.
        bits: Of a number.

    Returns:
        uint8 ``[n, O]``.
    """
    if bits != 4:
        raise CheckpointError(
            f'AWQ in {bits} bits: published folders have 4, whose order is the one known here'
        )
    shifts = torch.arange(0, 32, bits, dtype=torch.int32, device=packed.device)  # [8]: 0, 4, … 28
    # [n, O/8, 8]; the mask takes off the sign that shifting right copies.
    numbers = (packed.unsqueeze(-1) >> shifts) & (2**bits - 1)
    return numbers[..., list(_AWQ_ORDER)].flatten(1).to(torch.uint8)


def dequantise_awq(qweight: Tensor, qzeros: Tensor, scales: Tensor) -> Tensor:
    """Weight ``[O, I]`` of an AWQ layer: ``(q − zero) · scale``, in the dtype of the scales.

    Args:
        qweight: int32 ``[I, O/8]``.
        qzeros: int32 ``[I/G, O/8]``.
        scales: ``[I/G, O]``.

    Source: Lin et al. 2023, AWQ (arXiv 2306.00978); layout of AutoAWQ's ``gemm`` version, which LMDeploy writes, too.
    """
    weights, zeros = unpack_awq(qweight), unpack_awq(qzeros)  # [I, O] and [I/G, O]
    group, rest = divmod(len(weights), len(zeros))
    if rest or scales.shape != zeros.shape:
        raise CheckpointError(
            f'quantised layer of {len(weights)} input features with zeros {tuple(zeros.shape)} and scales '
            f'{tuple(scales.shape)}: both need one row per group of input features and one column per output'
        )
    # Differences of numbers below 16 are exact in fp16; only the product is rounded, as in AWQ's kernels.
    grouped = weights.unflatten(0, (-1, group)).to(scales.dtype) - zeros.unsqueeze(1).to(scales.dtype)
    return (grouped * scales.unsqueeze(1)).flatten(0, 1).t().contiguous()  # [O, I]


def dequantise_int8(weight: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Weight ``[O, I]`` of a bitsandbytes layer in 8 bits: ``q · SCB / 127``, rows scaled by their largest value.

    Args:
        weight: int8 ``[O, I]``.
        scales: Largest absolute value of each row, ``[O]``.
        dtype: Of the result.

    Source: Dettmers et al. 2022, LLM.int8() (arXiv 2208.07339).
    """
    if weight.dtype != torch.int8 or scales.numel() != len(weight):
        raise CheckpointError(
            f'an 8-bit weight is int8 with one scale per row, not {weight.dtype} {tuple(weight.shape)} with '
            f'{scales.numel()} scales'
        )
    return (weight.float() * (scales.float().view(-1, 1) / 127)).to(dtype)


class DequantisedWeights(Mapping[str, Tensor]):
    """Tensors of a quantised folder under the names of the model it was made from.

    Args:
        weights: Stored names and tensors.
        dtype: Of weights that were kept in 8 bits; AWQ's keep the dtype of their scales.

    Raises:
        CheckpointError: A layer lacks one of its tensors.
    """

    def __init__(self, weights: Mapping[str, Tensor], dtype: torch.dtype):
        self._read: dict[str, Callable[[], Tensor]] = {}
        for name in weights:
            layer, _, last = name.rpartition('.')
            if last in _AWQ:
                parts = _parts(weights, layer, _AWQ)
                self._read[f'{layer}.weight'] = partial(_plain, weights, parts, dequantise_awq)
            elif last == _INT8[1]:
                parts = _parts(weights, layer, _INT8)
                int8 = partial(dequantise_int8, dtype=dtype)
                self._read[f'{layer}.weight'] = partial(_plain, weights, parts, int8)
            elif last != _INT8_FORMAT:
                # A weight met before its scales is replaced when they come, or was already.
                self._read.setdefault(name, partial(weights.__getitem__, name))

    def __getitem__(self, name: str) -> Tensor:
        return self._read[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


def _plain(weights: Mapping[str, Tensor], parts: Sequence[str], dequantise: Callable[..., Tensor]) -> Tensor:
    """One layer's weight, read from the file when it is asked for."""
    return dequantise(*(weights[part] for part in parts))


def _parts(weights: Mapping[str, Tensor], layer: str, names: tuple[str, ...]) -> list[str]:
    parts = [f'{layer}.{name}' for name in names]
    if missing := [part for part in parts if part not in weights]:
        raise CheckpointError(f'{missing[0]} is missing beside the other parts of a quantised layer')
    return parts


def open_plain(folder: str | os.PathLike[Any], config: PreTrainedConfig) -> Mapping[str, Tensor]:
    """Weights of a quantised folder as plain ones; the configuration forgets that they were quantised.

    Args:
        folder: With the weights.
        config: Its configuration, with ``quantization_config``.

    Raises:
        CheckpointError: A kind of quantisation that only other libraries read, or a layer is incomplete.
    """
    settings = config.quantization_config
    settings = settings if isinstance(settings, Mapping) else settings.to_dict()
    check_quantisation(settings, folder)
    # With it transformers would ask for the library that quantised the weights.
    del config.quantization_config
    dtype = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float16
    weights = DequantisedWeights(open_weights(Path(folder)), dtype)
    print_log(
        f'{folder}: quantised weights are read as plain {str(dtype).removeprefix("torch.")} ones', 'current'
    )
    return weights


def check_quantisation(settings: Mapping[str, Any], folder: Any) -> None:
    """Refuse kinds of quantisation that are read by other libraries alone.

    Raises:
        CheckpointError: Names what can read them.
    """
    method = str(settings.get('quant_method', 'bitsandbytes' if settings.get('load_in_8bit') else None))
    if method == 'awq':
        version = str(settings.get('version', 'gemm')).lower()
        if version != 'gemm' or settings.get('bits', settings.get('w_bit', 4)) != 4:
            raise CheckpointError(
                f"{folder}: AWQ of version {version!r} in {settings.get('bits')} bits; read here is 'gemm' in 4 bits, "
                'which all published folders have'
            )
        return
    if method == 'bitsandbytes' and settings.get('load_in_8bit'):
        return
    needs = 'bitsandbytes' if method == 'bitsandbytes' else f'the library that wrote {method!r}'
    raise CheckpointError(
        f'{folder} is quantised ({method}, {_bits(settings)}), which needs {needs} and transformers.AutoModel; read '
        'without are AWQ in 4 bits and bitsandbytes in 8 bits'
    )


def _bits(settings: Mapping[str, Any]) -> str:
    return '4 bits' if settings.get('load_in_4bit') else f'{settings.get("bits", "unknown")} bits'
