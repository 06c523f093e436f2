"""Attention-pooling probes of the frozen tiny InternViT on cached tokens of two views, three learning rates in one pass.

Command: python tools/train.py configs/quickstart/attn_pool_sweep_intern_vit_tiny_digits.py
Hardware: 2 CPU cores, seconds.
Expected: top-1 98.1 on the test digits for the best rate (measured, backbone at 97.8);
    95.3 with the backbone of contrastive_intern_vit_tiny_digits.py, as in the quickstart (measured, seed 0).
"""

from mmengine.config import read_base

with read_base():
    from .._base_.models.attn_pool_probe import model as _probe
    from .linear_sweep_intern_vit_tiny_digits import *

model['neck'] = dict(_probe['neck'], num_heads=4)
probe.update(learning_rates=[0.05, 0.1, 0.2], weight_decays=[0.0])
features.update(views=2)
