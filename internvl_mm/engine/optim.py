"""Parameter groups with layer-wise learning rates, and the published cosine schedule."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import Tensor, nn

from internvl_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, PARAM_SCHEDULERS
from internvl_mm.utils.errors import ConfigError


def is_elementwise(optimizer: Mapping[str, Any], device: str) -> bool:
    """Whether an optimiser updates each value by itself, whatever tensor it stands in, as AdamW and SGD do.

    LAMB, Adafactor, Muon and AdamP do not: their steps depend on norm, rows or directions of a whole parameter.

    Args:
        optimizer: Its config; it is built for one small parameter, and for the two flat halves of that, and tried.
        device: Where it will work; some work nowhere else.

    Raises:
        ConfigError: It cannot be tried: it refuses its settings, or its steps need more than gradients.
    """
    random = torch.Generator().manual_seed(0)
    # [rows, columns]; the halves differ in scale, so that no norm of one is the norm of the whole.
    scale = torch.tensor([1.0, 100.0]).repeat_interleave(8)[:, None]
    start = (scale * torch.randn(16, 16, generator=random)).to(device)
    try:
        whole, parts = (
            _two_steps(optimizer, tensors, scale**2) for tensors in ([start], start.flatten().chunk(2))
        )
    # As LBFGS, which asks for a closure, and Adafactor where it has a rate of its own.
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f'optim_wrapper.optimizer={dict(optimizer)} takes no plain step: {error}'
        ) from error
    return torch.allclose(whole - start.flatten(), parts - start.flatten(), rtol=1e-2, atol=1e-4)


def _two_steps(optimizer: Mapping[str, Any], tensors: Sequence[Tensor], scale: Tensor) -> Tensor:
    """``[256]``, all values of parameters that start as ``tensors``, after two steps: the first may be alike."""
    parameters = [nn.Parameter(tensor.clone()) for tensor in tensors]
    # A rate of 0 would hide all differences.
    built = OPTIMIZERS.build({**optimizer, 'lr': 0.1, 'params': parameters})
    random = torch.Generator().manual_seed(1)
    for _ in range(2):
        gradient = (scale * torch.randn(16, 16, generator=random)).to(parameters[0].device)
        # At right angles to each row, where AdamP and SGDP look at the row.
        now = torch.cat([parameter.detach().flatten() for parameter in parameters]).view(16, 16)
        gradient -= now * (gradient * now).sum(1, keepdim=True) / (now * now).sum(1, keepdim=True)
        for parameter, share in zip(parameters, gradient.flatten().chunk(len(parameters))):
            parameter.grad = share.view_as(parameter)
        built.step()
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecay:
    """Parameter groups whose learning rate falls with the distance from the head.

    A parameter of layer id k gets ``lr * decay_rate ** (n + 1 - k)`` for a backbone of n blocks; the backbone says
    which id its parameters have (0 embeddings, i+1 block i), all others have n + 1, so that necks, adapters and heads
    train at ``lr``. Parameters of at most one dimension and biases get no weight decay; class token, positions and
    level embeddings do, as published. Frozen parameters stay out.

    Args:
        optim_wrapper_cfg: The optimiser wrapper's config; mmengine gives it.
        paramwise_cfg: ``dict(decay_rate=...)``; beside it ``at_input``, beginnings of parameter names outside of the
            backbone that get the rate of the embeddings (ViT-Adapter's recipes: queries of the Mask2Former head).

    Source: ``layer_decay_optimizer_constructor.py`` of InternVL's segmentation code.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        for problem in self.check_config(optim_wrapper_cfg, paramwise_cfg):
            raise ConfigError(f'optim_wrapper: {problem}')
        self.decay_rate = paramwise_cfg['decay_rate']
        self.at_input = tuple(paramwise_cfg.get('at_input', ()))
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = dict(self.optim_wrapper_cfg.pop('optimizer'))

    @classmethod
    def check_config(cls, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> list[str]:
        """What is wrong with the settings."""
        settings = dict(paramwise_cfg or {})
        rate, at_input = settings.pop('decay_rate', None), settings.pop('at_input', ())
        names = isinstance(at_input, (list, tuple)) and all(isinstance(name, str) for name in at_input)
        if not settings and names and isinstance(rate, (int, float)) and 0 < rate <= 1:
            return []
        return [
            f'paramwise_cfg={paramwise_cfg}: LayerDecay takes dict(decay_rate=...) with a rate in (0, 1] and, beside '
            'it, at_input, a list of names'
        ]

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build optimiser and wrapper for a model."""
        groups = self.groups(model.module if is_model_wrapper(model) else model)
        optimizer = OPTIMIZERS.build(dict(self.optimizer_cfg, params=groups))
        wrapper = dict(self.optim_wrapper_cfg)
        wrapper.setdefault('type', OptimWrapper)
        return OPTIM_WRAPPERS.build(wrapper, default_args=dict(optimizer=optimizer))

    def groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Parameter groups by (layer id, weight decay or not), the deepest first.

        Raises:
            ConfigError: The model has no backbone that knows layer ids, the optimiser config no ``lr``, or no parameter
                is named by an entry of ``at_input``.
        """
        # Known by what it can, not by its class: guest backbones have layer ids, too.
        backbone = getattr(model, 'backbone', None)
        if not hasattr(backbone, 'layer_id'):
            raise ConfigError(
                f'LayerDecay needs a model with a backbone that has layer_id(); {type(model).__name__} has none: '
                "leave optim_wrapper.constructor out to use mmengine's default"
            )
        if 'lr' not in self.optimizer_cfg:
            raise ConfigError('LayerDecay needs optim_wrapper.optimizer.lr, the learning rate of the head')
        lr, weight_decay = self.optimizer_cfg['lr'], self.optimizer_cfg.get('weight_decay', 0.0)
        last = backbone.num_layers + 1
        # By the parameter, not its name: a task may keep the backbone inside of a model it wraps.
        layers = {id(parameter): backbone.layer_id(name) for name, parameter in backbone.named_parameters()}
        unused = set(self.at_input)
        found: dict[tuple[int, bool], list[nn.Parameter]] = defaultdict(list)
        for name, parameter in model.named_parameters():
            layer = layers.get(id(parameter), last)
            if id(parameter) not in layers and name.startswith(self.at_input):
                # Frozen parameters count here: a name is no mistake because its part does not train.
                unused -= {start for start in self.at_input if name.startswith(start)}
                layer = 0
            if parameter.requires_grad:
                found[layer, parameter.ndim > 1 and not name.endswith('.bias')].append(parameter)
        if unused:
            raise ConfigError(
                f'paramwise_cfg.at_input: no parameter outside of the backbone begins with {sorted(unused)}'
            )
        return [
            dict(
                params=parameters,
                # The head has exponent 0, embeddings n + 1.
                lr=lr * self.decay_rate ** (last - layer),  # 0.95, 48 blocks: embeddings 0.081
                weight_decay=weight_decay if decays else 0.0,
                name=f'layer_{layer}_{"decay" if decays else "no_decay"}',
            )
            # Sorted: the order of groups is part of an optimiser's state.
            for (layer, decays), parameters in sorted(found.items())
        ]


@PARAM_SCHEDULERS.register_module()
class CosineAbsolute(_ParamScheduler):
    """Linear warm-up from 0, then a half cosine evaluated at the absolute step: the published classification schedule.

    ``lr(t) = base * t / warmup`` for ``t < warmup``, else ``base * (1 + cos(pi t / end)) / 2``. Because the cosine does
    not start where the warm-up ends, the rate makes a small step down there. The first update uses rate 0.

    Args:
        optimizer: What to schedule; the runner gives it.
        warmup: Steps of warm-up; written in epochs (see ``by_epoch``) it may be a fraction.
        end: Step at which the rate is 0; the runner gives the length of training.
        eta_min: Rate at the end.
        by_epoch: Steps are epochs; with ``convert_to_iter_based=True`` written in epochs and stepped by iterations.
        last_step: For resuming.

    Source: timm's ``CosineLRScheduler`` with ``warmup_prefix=False``.
    """

    def __init__(
        self,
        optimizer: Any,
        *,
        warmup: float,
        end: int,
        eta_min: float = 0.0,
        by_epoch: bool = True,
        last_step: int = -1,
    ):
        for problem in CosineAbsolute.check_config(warmup=warmup, end=end):
            raise ConfigError(f'{type(self).__name__}: {problem}')
        self.warmup, self.total, self.eta_min = warmup, end, eta_min
        # One step beyond the last, so that the final value is set, too.
        super().__init__(optimizer, 'lr', begin=0, end=end + 1, last_step=last_step, by_epoch=by_epoch)

    @classmethod
    def check_config(cls, *, warmup: float, end: float = math.inf, **options: Any) -> list[str]:
        """What is wrong with the lengths, both in epochs or both in steps."""
        del options
        # 0 epochs of warm-up are no warm-up; one beyond the end would never reach the base rate.
        if 0 <= warmup <= end:
            return []
        return [f'warmup={warmup} must lie between 0 and end={end}, the length of training: set both']

    @classmethod
    def build_iter_from_epoch(
        cls, *args: Any, warmup: float, end: int, by_epoch: bool = True, epoch_length: int, **kwargs: Any
    ) -> CosineAbsolute:
        """Build from lengths in epochs, stepping by iterations; mmengine calls it for ``convert_to_iter_based``."""
        if not by_epoch:
            raise ConfigError('CosineAbsolute: convert_to_iter_based=True needs by_epoch=True')
        return cls(
            # A warm-up may be a fraction of an epoch.
            *args,
            warmup=round(warmup * epoch_length),
            end=end * epoch_length,
            by_epoch=False,
            **kwargs,
        )

    def _get_value(self) -> list[float]:
        step = self.last_step
        if step < self.warmup:
            return [base * step / self.warmup for base in self.base_values]
        # Beyond the end (a resumed, longer run) the cosine would rise again.
        if step >= self.total:
            return [self.eta_min for _ in self.base_values]
        # The rate drops at the end of the warm-up: published, from 0.1998 to 0.1951 (base 0.2, step 1251 of 12,510).
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.total))
        return [self.eta_min + (base - self.eta_min) * cosine for base in self.base_values]


@PARAM_SCHEDULERS.register_module()
class CosineAfterWarmup(CosineAbsolute):
    """Linear warm-up from 0, then a half cosine over the steps that are left: the schedule of chat training.

    Args:
        optimizer: See :class:`CosineAbsolute`.
        options: See :class:`CosineAbsolute`.

    Source: transformers' ``get_cosine_schedule_with_warmup``.
    """

    def _get_value(self) -> list[float]:
        step = self.last_step
        if step < self.warmup:
            return [base * step / self.warmup for base in self.base_values]
        # max(): a warm-up as long as the training would divide by 0.
        share = min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))
        cosine = 0.5 * (1 + math.cos(math.pi * share))
        return [self.eta_min + (base - self.eta_min) * cosine for base in self.base_values]


@PARAM_SCHEDULERS.register_module()
class CosineAfterSteps(CosineAfterWarmup):
    """:class:`CosineAfterWarmup` whose warm-up is a number of steps, however long an epoch is.

    Args:
        optimizer: See :class:`CosineAbsolute`.
        options: See :class:`CosineAbsolute`; ``end`` alone is written in epochs.
    """

    @classmethod
    def check_config(cls, **options: Any) -> list[str]:
        """Nothing: a warm-up longer than the training is cut, see below."""
        del options
        return []

    @classmethod
    def build_iter_from_epoch(
        cls, *args: Any, warmup: float, end: int, by_epoch: bool = True, epoch_length: int, **kwargs: Any
    ) -> CosineAbsolute:
        """Build from steps of warm-up and epochs of training."""
        total = end * epoch_length
        # A trial on little data is shorter than the warm-up of the recipe.
        share = min(warmup, total) / epoch_length
        return super().build_iter_from_epoch(
            *args, warmup=share, end=end, by_epoch=by_epoch, epoch_length=epoch_length, **kwargs
        )
