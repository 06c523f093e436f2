"""A small InternViT for the CPU: intern_vit_tiny with six blocks of width 128 (1.3 M parameters)."""

from mmengine.config import read_base

with read_base():
    from .intern_vit_tiny import *

backbone.update(hidden_size=128, num_hidden_layers=6, intermediate_size=512)
