"""The published segmentation schedule: AdamW at 4e-5 for 16 pictures, 80,000 iterations, linear to 0 after a warm-up.

During the warm-up of W steps the rate is that of the linear decay times ``1 - (1 - t/W)(1 - 1e-6)``, as in mmcv: both
rules run from the beginning, and their ends count the step after the last. No clipping. Evaluation every 1,000 steps.
Weight decay 0.05 spares norms and biases, not positions and class token; a decay rate below 1 lowers the rates of
early blocks.
"""

from mmengine.optim import LinearLR, OptimWrapper, PolyLR
from torch.optim import AdamW

from internvl_mm.engine.loops import IterTrainLoop
from internvl_mm.engine.optim import LayerDecay

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=4e-5, betas=(0.9, 0.999), weight_decay=0.05),
    constructor=LayerDecay,
    paramwise_cfg=dict(decay_rate=1.0),
)
# Two schedules of one rate multiply: each scales what the other left.
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-6, begin=0, end=1501, by_epoch=False),
    dict(type=PolyLR, power=1.0, begin=0, end=80001, by_epoch=False),
]
train_cfg = dict(type=IterTrainLoop, max_iters=80000, val_interval=1000)
