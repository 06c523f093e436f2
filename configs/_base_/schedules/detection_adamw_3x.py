"""Detectors, 36 epochs: detection_adamw_1x.py with ×0.1 after 27 and 33 epochs."""

from mmengine.config import read_base

with read_base():
    from .detection_adamw_1x import *

param_scheduler[1].update(milestones=[27, 33], end=36)
train_cfg.update(max_epochs=36)
