"""Child registries of mmengine's: one per kind of part, each with its room and a one-line contract.

Configs name classes by import, so the registries are rarely looked up by string. They exist so that parts can be
listed (contract tests walk them), so that mmengine can build them, and so that guest projects can add their own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from mmengine.registry import DATA_SAMPLERS as MM_DATA_SAMPLERS
from mmengine.registry import DATASETS as MM_DATASETS
from mmengine.registry import FUNCTIONS as MM_FUNCTIONS
from mmengine.registry import HOOKS as MM_HOOKS
from mmengine.registry import LOG_PROCESSORS as MM_LOG_PROCESSORS
from mmengine.registry import LOOPS as MM_LOOPS
from mmengine.registry import METRICS as MM_METRICS
from mmengine.registry import MODELS as MM_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MM_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MM_OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as MM_OPTIMIZERS
from mmengine.registry import PARAM_SCHEDULERS as MM_PARAM_SCHEDULERS
from mmengine.registry import RUNNERS as MM_RUNNERS
from mmengine.registry import STRATEGIES as MM_STRATEGIES
from mmengine.registry import TRANSFORMS as MM_TRANSFORMS
from mmengine.registry import VISBACKENDS as MM_VISBACKENDS
from mmengine.registry import VISUALIZERS as MM_VISUALIZERS
from mmengine.registry import DefaultScope, Registry

SCOPE = 'internvl_mm'
# Libraries whose parts build parts of their own by bare names, such as the 'CrossEntropyLoss' of every head of mmseg.
_GUESTS = frozenset({'mmseg', 'mmdet'})


def home_scope(kind: Any) -> AbstractContextManager:
    """Let a class of mmseg or mmdet, or one derived from them, find what its constructor names in its own library.

    During a run names are looked up in our registries, which do not know those of the libraries; and the two libraries
    give one name to different classes, so that no common place could hold both.

    Args:
        kind: The class; anything else leaves the scope as it is.
    """
    bases = kind.__mro__ if isinstance(kind, type) else ()
    # The nearest base: mmseg's Mask2FormerHead derives from mmdet's, and means its own names.
    homes = [home for base in bases if (home := base.__module__.partition('.')[0]) in _GUESTS]
    return DefaultScope.overwrite_default_scope(homes[0]) if homes else nullcontext()


class _Parts(Registry):
    """A registry that builds classes of mmseg and mmdet in their own scope."""

    def build(self, cfg: dict, *args: Any, **kwargs: Any) -> Any:
        """See mmengine's ``Registry.build``."""
        with home_scope(cfg.get('type') if isinstance(cfg, dict) else None):
            return super().build(cfg, *args, **kwargs)


def _child(name: str, parent: Registry, room: str, kind: type[Registry] = Registry) -> Registry:
    return kind(name, parent=parent, scope=SCOPE, locations=[f'{SCOPE}.{room}'])


# index -> one sample of a declared type; knows its length, name and classes
DATASETS = _child('dataset', MM_DATASETS, 'data')
# dataset -> order of indices, the same for any number of processes
DATA_SAMPLERS = _child('data sampler', MM_DATA_SAMPLERS, 'data')
# list of samples -> batch
FUNCTIONS = _child('function', MM_FUNCTIONS, 'data')
# sample -> sample, identical in training, evaluation and serving
TRANSFORMS = _child('transform', MM_TRANSFORMS, 'preprocess')
# backbones, necks, connectors, language models, heads, losses, tasks and data preprocessors
MODELS = _child('model', MM_MODELS, 'models', _Parts)
# stream of predictions -> dict of numbers
METRICS = _child('metric', MM_METRICS, 'evaluation')
# what happens around steps: logging, checkpoints, checks
HOOKS = _child('hook', MM_HOOKS, 'engine')
# order of steps: epochs, iterations, named lists of benchmarks
LOOPS = _child('loop', MM_LOOPS, 'engine')
# the whole run
RUNNERS = _child('runner', MM_RUNNERS, 'engine')
# where and in which precision the run happens
STRATEGIES = _child('strategy', MM_STRATEGIES, 'engine')
# model -> parameter groups
OPTIM_WRAPPER_CONSTRUCTORS = _child('optimizer wrapper constructor', MM_OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
# gradients -> new parameters
OPTIMIZERS = _child('optimizer', MM_OPTIMIZERS, 'engine')
# optimizer -> steps under a precision
OPTIM_WRAPPERS = _child('optim_wrapper', MM_OPTIM_WRAPPERS, 'engine')
# step -> learning rate, momentum
PARAM_SCHEDULERS = _child('parameter scheduler', MM_PARAM_SCHEDULERS, 'engine')
# scalars -> lines of the log, files and trackers
LOG_PROCESSORS = _child('log_processor', MM_LOG_PROCESSORS, 'engine')
VISUALIZERS = _child('visualizer', MM_VISUALIZERS, 'engine')
VISBACKENDS = _child('vis_backend', MM_VISBACKENDS, 'engine')
# batch -> new weights, and what happens when it does not fit into memory
STEPS = Registry('step', scope=SCOPE, locations=[f'{SCOPE}.engine'])
# training state -> files on the disk, at once or in the background
SAVERS = Registry('saver', scope=SCOPE, locations=[f'{SCOPE}.engine'])
# cached features of frozen backbones -> numbers
PROBES = Registry('probe', scope=SCOPE, locations=[f'{SCOPE}.engine'])
