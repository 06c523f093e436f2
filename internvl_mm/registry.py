"""Child registries of mmengine's: one per kind of part, each with its room and a one-line contract.

Configs name classes by import, so the registries are rarely looked up by string. They exist so that parts can be
listed (contract tests walk them), so that mmengine can build them, and so that guest projects can add their own.
"""

from __future__ import annotations

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
from mmengine.registry import Registry

SCOPE = 'internvl_mm'


def _child(name: str, parent: Registry, room: str) -> Registry:
    return Registry(name, parent=parent, scope=SCOPE, locations=[f'{SCOPE}.{room}'])


# index -> one sample of a declared type; knows its length, name and classes
DATASETS = _child('dataset', MM_DATASETS, 'data')
# dataset -> order of indices, the same for any number of processes
DATA_SAMPLERS = _child('data sampler', MM_DATA_SAMPLERS, 'data')
# list of samples -> batch
FUNCTIONS = _child('function', MM_FUNCTIONS, 'data')
# sample -> sample, identical in training, evaluation and serving
TRANSFORMS = _child('transform', MM_TRANSFORMS, 'preprocess')
# backbones, necks, connectors, language models, heads, losses, tasks and data preprocessors
MODELS = _child('model', MM_MODELS, 'models')
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
# training state -> files on the disk, at once or in the background
SAVERS = Registry('saver', scope=SCOPE, locations=[f'{SCOPE}.engine'])
# cached features of frozen backbones -> numbers
PROBES = Registry('probe', scope=SCOPE, locations=[f'{SCOPE}.engine'])
