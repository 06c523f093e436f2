"""detection_adamw_adapter_1x.py for 36 epochs, ×0.1 after 27 and 33."""

from mmengine.config import read_base

with read_base():
    from .detection_adamw_adapter_1x import *

param_scheduler[1].update(milestones=[27, 33], end=36)
train_cfg.update(max_epochs=36)
