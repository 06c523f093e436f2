"""detection_adamw_1x.py as published for ViT-Adapter T, S and B: no weight decay on embeddings, norms and biases.

Its large model has layer-wise rates instead, with a decay of 0.8.
"""

from mmengine.config import read_base
from mmengine.optim import DefaultOptimWrapperConstructor

with read_base():
    from .detection_adamw_1x import *

# custom_keys are parts of parameter names.
_none = dict(decay_mult=0.0)
optim_wrapper.update(constructor=DefaultOptimWrapperConstructor)
optim_wrapper['paramwise_cfg'] = dict(
    custom_keys={'level_embed': _none, 'position_embedding': _none, 'norm': _none, 'bias': _none}
)
