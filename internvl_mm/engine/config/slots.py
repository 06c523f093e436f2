"""What the checker knows about places in a config beyond annotations, as data.

Most of a config explains itself: ``type`` names a class and the other keys are its arguments. The exceptions are here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from mmengine._strategy import BaseStrategy
from mmengine.dataset import BaseDataset as MMBaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.optim import BaseOptimWrapper, OptimWrapper, _ParamScheduler
from mmengine.runner import BaseLoop, LogProcessor, Priority, set_random_seed
from mmengine.utils.dl_utils import set_multi_processing
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import BaseVisBackend
from pydantic import Field
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset, Sampler

from internvl_mm.engine.features import FeatureCache
from internvl_mm.engine.probes import BaseProbe
from internvl_mm.evaluation.prompts import DatasetPrompts
from internvl_mm.preprocess.class_prompts import ClassPrompts
from internvl_mm.utils.paths import ExistingPath

Keys = tuple[str, ...]
# mmengine reads these names in either case.
_Priority: Any = Literal[tuple(name for known in Priority for name in (known.name, known.name.lower()))]


# The classes below only lend their constructors' signatures to the checker: nothing builds them.
class Benchmark:
    """The keys of one entry of ``benchmarks``."""

    def __init__(self, dataloader: dict, metrics: list, prompts: dict | None = None):
        pass


class LearningRateRule:
    """The keys of ``auto_scale_lr``."""

    def __init__(self, base_batch_size: int, enable: bool = True):
        pass


class ParameterGroups:
    """The keys of ``paramwise_cfg`` for mmengine's ``DefaultOptimWrapperConstructor``, which ignores unknown ones."""

    def __init__(
        self,
        custom_keys: dict | None = None,
        bias_lr_mult: float | None = None,
        bias_decay_mult: float | None = None,
        norm_decay_mult: float | None = None,
        flat_decay_mult: float | None = None,
        dwconv_decay_mult: float | None = None,
        dcn_offset_lr_mult: float | None = None,
        bypass_duplicate: bool = False,
    ):
        pass


class Folders:
    """The keys of ``data_prefix`` of mmseg's and mmdet's data sets."""

    def __init__(
        self, img_path: str = '', seg_map_path: str = '', img: str = '', ann: str = '', seg: str = ''
    ):
        pass


class Filter:
    """The keys of ``filter_cfg`` of mmdet's data sets."""

    def __init__(self, filter_empty_gt: bool = False, min_size: int = 0):
        pass


class Classes:
    """The keys of ``metainfo`` of mmseg's and mmdet's data sets."""

    def __init__(self, classes: list | tuple | str = (), palette: list | tuple = ()):
        pass


class ProcessGroup:
    """The keys of ``env_cfg.dist_cfg``."""

    def __init__(
        self,
        backend: Literal['auto', 'nccl', 'gloo'] = 'auto',
        timeout: float | None = None,
    ):
        pass


class ParameterFactors:
    """The keys of one entry of ``custom_keys`` in :class:`ParameterGroups`."""

    def __init__(self, lr_mult: float = 1.0, decay_mult: float = 1.0):
        pass


# Dicts without `type`, and whose arguments they hold ('*' stands for any name or index).
UNTYPED: dict[Keys, Callable] = {
    ('train_dataloader',): DataLoader,
    ('optim_wrapper',): OptimWrapper,
    ('optim_wrapper', 'paramwise_cfg', 'custom_keys', '*'): ParameterFactors,
    ('optim_wrapper', 'clip_grad'): nn.utils.clip_grad_norm_,
    ('benchmarks', '*'): Benchmark,
    ('benchmarks', '*', 'dataloader'): DataLoader,
    ('auto_scale_lr',): LearningRateRule,
    ('env_cfg', 'dist_cfg'): ProcessGroup,
    ('env_cfg', 'mp_cfg'): set_multi_processing,
    ('env_cfg',): BaseStrategy._setup_env,  # strategies hand it on as keywords
    ('randomness',): set_random_seed,
    ('log_processor',): LogProcessor,
    ('compile',): torch.compile,
    ('features',): FeatureCache,
}

# What has to stand at a place, where the annotation of the argument does not say it.
WANTED: dict[Keys, Any] = {
    ('model',): nn.Module,
    ('train_dataloader', 'dataset'): Dataset,
    ('train_dataloader', 'sampler'): Sampler,
    ('train_dataloader', 'collate_fn'): Callable,
    ('train_cfg',): BaseLoop,
    ('optim_wrapper', 'optimizer'): Optimizer,
    # Not every optimiser asks: timm's Muon and LAMB train with any.
    ('optim_wrapper', 'optimizer', 'betas', '*'): Annotated[float, Field(ge=0, lt=1)],
    # A negative one would climb, and 0 would stand still.
    ('optim_wrapper', 'clip_grad', 'max_norm'): Annotated[float, Field(gt=0)],
    ('optim_wrapper', 'clip_grad', 'norm_type'): Annotated[float, Field(gt=0)],
    ('optim_wrapper', 'clip_grad', 'clip_value'): Annotated[float, Field(gt=0)],
    ('env_cfg', 'mp_cfg', 'mp_start_method'): Literal['fork', 'spawn', 'forkserver'] | None,
    ('param_scheduler', '*'): _ParamScheduler,
    ('benchmarks', '*', 'dataloader', 'dataset'): Dataset,
    ('benchmarks', '*', 'dataloader', 'sampler'): Sampler,
    ('benchmarks', '*', 'dataloader', 'collate_fn'): Callable,
    ('benchmarks', '*', 'metrics', '*'): BaseMetric,
    ('benchmarks', '*', 'prompts'): DatasetPrompts | ClassPrompts | None,
    ('probe',): BaseProbe,
    ('strategy',): BaseStrategy | None,
    ('default_hooks', '*'): Hook | None,
    ('custom_hooks', '*'): Hook,
    ('visualizer',): Visualizer | None,
    ('visualizer', 'vis_backends'): list[BaseVisBackend] | None,
    ('load_from',): ExistingPath | None,
    ('resume',): bool | Literal['auto'] | ExistingPath,
    ('cfg',): None.__class__,  # an argument of the runner that only its from_cfg gives
}

# Arguments the builder gives, so that a config does not have to.
GIVEN: tuple[tuple[Any, frozenset[str]], ...] = (
    (Optimizer, frozenset({'params'})),
    (BaseLoop, frozenset({'runner', 'dataloader'})),
    (Sampler, frozenset({'dataset', 'seed', 'sampler', 'batch_size'})),
    (_ParamScheduler, frozenset({'optimizer'})),
    (Visualizer, frozenset({'name'})),
    (BaseVisBackend, frozenset({'save_dir'})),
    (_NormBase, frozenset({'num_features'})),  # mmcv's ConvModule knows its channels
    (nn.GroupNorm, frozenset({'num_channels'})),
)

# Keys the builder takes out before it calls the class, with their types.
TAKEN: tuple[tuple[Any, dict[str, Any]], ...] = (
    (Hook, {'priority': Annotated[int, Field(ge=0, le=100)] | _Priority}),  # Runner.register_hook
    (_ParamScheduler, {'convert_to_iter_based': bool, 'epoch_length': int}),  # build_param_scheduler
    (BaseOptimWrapper, {'constructor': Any, 'paramwise_cfg': dict | None}),  # build_optim_wrapper
    (nn.utils.clip_grad_norm_, {'type': Literal['norm', 'value']}),  # OptimWrapper's
    (nn.utils.clip_grad_value_, {'type': Literal['norm', 'value']}),
    (_NormBase, {'requires_grad': bool}),  # mmcv's build_norm_layer
    (nn.GroupNorm, {'requires_grad': bool}),
)

# Arguments that are such dicts wherever their owner stands.
OPTIONS: tuple[tuple[Any, dict[str, Callable]], ...] = (
    (MMBaseDataset, dict(data_prefix=Folders, filter_cfg=Filter, metainfo=Classes)),
)

# Names under which mmcv, mmseg and mmdet take layers and losses, without an annotation that says so.
PARTS = frozenset({'norm_cfg', 'conv_cfg', 'act_cfg', 'loss_decode', 'loss_cls', 'loss_bbox', 'loss_mask'})


def at(table: dict[Keys, Any], path: Keys) -> Any:
    """The entry of ``table`` whose pattern fits ``path``, or ``None``."""
    for pattern, entry in table.items():
        if len(pattern) == len(path) and all(want in ('*', name) for want, name in zip(pattern, path)):
            return entry
    return None


def untyped_at(path: Keys, value: Any) -> Callable | None:
    """Whose arguments a dict at ``path`` holds, or ``None``."""
    target = at(UNTYPED, path)
    by_value = target is nn.utils.clip_grad_norm_ and isinstance(value, dict) and value.get('type') == 'value'
    return nn.utils.clip_grad_value_ if by_value else target


def of(table: tuple[tuple[Any, Any], ...], target: Callable) -> list[Any]:
    """The entries of ``table`` for a function, or for every base of a class."""
    bases = target.__mro__ if isinstance(target, type) else (target,)
    return [entry for kind, entry in table if kind in bases]
