"""Parameter groups of tasks with several pretrained parts: a learning rate and a layer decay for each."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import nn

from internvl_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS
from internvl_mm.utils.errors import ConfigError, did_you_mean

from .optim import LayerDecay

_SETTINGS = ('lr_mult', 'decay_rate')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PartRates(LayerDecay):
    """Parameter groups by part and depth: ``lr * lr_mult[part] * decay_rate[part] ** (last - depth)``.

    The task says what part and depth a parameter has (``layer_of``). Parameters of one dimension and biases get no
    weight decay; a temperature, which has none, does, as published. Frozen parameters stay out.

    Args:
        optim_wrapper_cfg: The optimiser wrapper's config; mmengine gives it.
        paramwise_cfg: ``dict(lr_mult=dict(part=...), decay_rate=dict(part=...))``, 1 where left out. The parts of a
            chat model are ``vision_model``, ``mlp1`` and ``language_model``.

    Attributes:
        undecayed: Numbers of dimensions that parameters without weight decay have.

    Source: the groups of InternVL's retrieval fine-tuning.
    """

    undecayed: tuple[int, ...] = (1,)

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        for problem in self.check_config(optim_wrapper_cfg, paramwise_cfg):
            raise ConfigError(f'optim_wrapper: {problem}')
        settings = paramwise_cfg or {}
        self.lr_mult, self.decay_rates = (dict(settings.get(name, {})) for name in _SETTINGS)
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = dict(self.optim_wrapper_cfg.pop('optimizer'))

    @classmethod
    def check_config(cls, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> list[str]:
        """See :class:`LayerDecay`."""
        settings = dict(paramwise_cfg or {})
        values = [settings.pop(name, {}) for name in _SETTINGS]
        numbers = [value for table in values if isinstance(table, dict) for value in table.values()]
        # bool apart, since True is an int to Python.
        right = all(isinstance(table, dict) for table in values) and all(
            isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 for value in numbers
        )
        if not settings and right:
            return []
        return [
            f'paramwise_cfg={paramwise_cfg}: PartRates takes dict(lr_mult=dict(part=...), decay_rate=dict(part=...)) '
            'with numbers above 0'
        ]

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Parameter groups by (part, depth, weight decay or not).

        Raises:
            ConfigError: The task does not know parts, a setting names none of them, or the optimiser has no ``lr``.
        """
        if not hasattr(model, 'layer_of'):
            raise ConfigError(
                f'PartRates needs a task with layer_of(), such as ChatTuning; {type(model).__name__} has none'
            )
        if 'lr' not in self.optimizer_cfg:
            raise ConfigError('PartRates needs optim_wrapper.optimizer.lr')
        lr, weight_decay = self.optimizer_cfg['lr'], self.optimizer_cfg.get('weight_decay', 0.0)
        # Name to (part, depth, last depth of the part).
        # All parameters, frozen ones too: naming a part that does not train is no mistake.
        places = {name: model.layer_of(name) for name, _ in model.named_parameters()}
        parts = {part for part, _, _ in places.values()}
        for named in {*self.lr_mult, *self.decay_rates} - parts:
            raise ConfigError(
                f"paramwise_cfg names the part '{named}'; {type(model).__name__} has {', '.join(sorted(parts))}."
                + did_you_mean(named, parts)
            )
        found: dict[tuple[str, int, int, bool], list[nn.Parameter]] = defaultdict(list)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                # Norms, layer scales and biases: decaying them pulls features towards 0 without regularising anything.
                decays = parameter.ndim not in self.undecayed and not name.endswith('.bias')
                found[(*places[name], decays)].append(parameter)
        return [
            dict(
                params=parameters,
                lr=lr * self.lr_mult.get(part, 1.0) * self.decay_rates.get(part, 1.0) ** (last - depth),
                weight_decay=weight_decay if decays else 0.0,
                name=f'{part}_{depth}_{"decay" if decays else "no_decay"}',
            )
            # Sorted: the order of groups is part of an optimiser's state.
            for (part, depth, last, decays), parameters in sorted(self._merged(found).items())
        ]

    def _merged(
        self, found: dict[tuple[str, int, int, bool], list]
    ) -> dict[tuple[str, int, int, bool], list]:
        """One group for all depths of a part without layer decay: fewer groups are faster."""
        merged: dict[tuple[str, int, int, bool], list] = defaultdict(list)
        for (part, depth, last, decays), parameters in found.items():
            # At the last depth the decay has exponent 0: the rate is lr * lr_mult.
            merged[part, depth if part in self.decay_rates else last, last, decays] += parameters
        return merged
