"""Muon on every device, and its parameter groups: matrices of hidden layers go to it, tables of words to AdamW."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import timm.optim
import torch
from timm.optim.muon import zeropower_via_newtonschulz
from torch import nn

from internvl_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS

from .optim import LayerDecay
from .part_rates import PartRates


@OPTIMIZERS.register_module()
class Muon(timm.optim.Muon):
    """timm's Muon, which on CPUs computes its Newton-Schulz iterations in fp32 instead of bf16.

    Few CPUs multiply bf16 matrices in hardware, and the others take ten to sixty times as long as in fp32 (64×64 to
    256×96 on AVX2); with fp32 they all compute the same, too.

    Args:
        settings: See timm.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """

    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """See timm."""
        if any(weight.device.type != 'cpu' for group in self.param_groups for weight in group['params']):
            return super().step(closure)
        # timm's function has the setting, its optimiser does not.
        iterations = partial(zeropower_via_newtonschulz, dtype=torch.float32)
        with mock.patch('timm.optim.muon.zeropower_via_newtonschulz', iterations):
            return super().step(closure)


class _TablesApart:
    """Splits the groups of another constructor: what belongs to a vocabulary is marked for timm's AdamW fallback.

    A step of Muon makes all directions of a matrix equally large. The gradient of an embedding table has as few
    directions as the batch has different tokens: those that say little would be made as large as those that say much.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """See the constructor this stands before; twice as many groups at most."""
        # By the parameter: an output layer may be tied to its embedding table.
        tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        tables |= {id(weight) for name, weight in model.named_parameters() if name.endswith('lm_head.weight')}
        split = []
        for group in super().groups(model):  # type: ignore[misc]
            for fallback in (False, True):
                chosen = [weight for weight in group['params'] if (id(weight) in tables) is fallback]
                if chosen:
                    mark = dict(use_fallback=True, name=f'{group["name"]}_table') if fallback else {}
                    split.append(dict(group, params=chosen, **mark))
        return split


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MuonLayerDecay(_TablesApart, LayerDecay):
    """:class:`LayerDecay` for timm's ``Muon``: embedding tables and output layers of a vocabulary use its AdamW.

    Args:
        optim_wrapper_cfg: See :class:`LayerDecay`.
        paramwise_cfg: See :class:`LayerDecay`.
    """


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MuonPartRates(_TablesApart, PartRates):
    """:class:`PartRates` for timm's ``Muon``: embedding tables and output layers of a vocabulary use its AdamW.

    Args:
        optim_wrapper_cfg: See :class:`PartRates`.
        paramwise_cfg: See :class:`PartRates`.
    """

    # A temperature, too: nothing published is reproduced with Muon, and AdamW's rate is large here.
    undecayed = (0, 1)
