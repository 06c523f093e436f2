"""Linear layers whose frozen weight is kept in 4 bits, by bitsandbytes: imported only where it is asked for."""

from __future__ import annotations

from typing import Any

from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import Tensor, nn

# Values that share a scale. Rows of another length would share scales with their neighbours, which bitsandbytes'
# kernels for CPUs unpack wrongly.
BLOCK = 64


class FourBitLinear(Linear4bit):
    """A frozen linear layer in 4-bit NormalFloat, with its scales quantised once more.

    The weight is packed at once, on the CPU as on a GPU. Unlike bitsandbytes' own the layer takes up what its state
    dict holds: packed weights with their scales, or plain ones.

    Args:
        layer: The layer whose weight, ``[O, I]``, and bias it takes; I a multiple of :data:`BLOCK`.

    Source: Dettmers et al. 2023, "QLoRA" (arXiv 2305.14314).
    """

    def __init__(self, layer: nn.Linear):
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device='meta')
        self.weight, self.bias = self._pack(layer.weight.data), layer.bias
        self.requires_grad_(False)
        # Its kernel for AVX-512 packs weights anew in the first evaluation and rounds their scales: the frozen weights
        # would be others than before.
        self.support_avx512bf16_for_cpu = False

    def _pack(self, weight: Tensor) -> Params4bit:
        # Moving packs, also from the CPU to the CPU; on the meta device nothing happens.
        packed = Params4bit(weight, requires_grad=False, quant_type='nf4', blocksize=BLOCK, module=self)
        return packed.to(weight.device)

    def to_linear(self) -> nn.Linear:
        """A plain layer of the values this one computes with, in the dtype the weight had."""
        plain = dequantize_4bit(self.weight.data, self.weight.quant_state)  # [O, I]
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, device='meta')
        layer.weight, layer.bias = nn.Parameter(plain, requires_grad=False), self.bias
        return layer

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        name = f'{prefix}weight'
        # 'absmax', 'quant_map', 'quant_state.bitsandbytes__nf4', …
        scales = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(f'{name}.')}
        value: Tensor | None = state_dict.get(name)
        if value is not None:
            if scales:
                device = self.weight.device
                self._take(Params4bit.from_prequantized(value, scales, device=device, module=self))
            elif value.shape != self.weight.shape:
                self._take(self._pack(value.to(self.weight.device)))
            elif not value.is_floating_point():
                # The last argument collects errors.
                args[-1].append(f'{name} is packed, and its scales ({name}.absmax and others) are missing')
            # What torch would copy is there already.
            state_dict[name] = self.weight
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _take(self, packed: Params4bit) -> None:
        # In place: an optimiser may know the parameter.
        self.weight.data, self.weight.quant_state = packed.data, packed.quant_state
        self.quant_state = packed.quant_state
