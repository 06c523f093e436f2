"""Detectors, 12 epochs: AdamW 1e-4 for 16 images, ×0.1 after 8 and 11 epochs, 500 iterations of linear warm-up.

The decay rate of 1 only keeps weight decay off norms and biases. Source: ViT-Adapter and InternVL-MMDetSeg.
"""

from mmengine.optim import LinearLR, MultiStepLR, OptimWrapper
from torch.optim import AdamW

from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.engine.optim import LayerDecay

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor=LayerDecay,
    paramwise_cfg=dict(decay_rate=1.0),
)
auto_scale_lr = dict(base_batch_size=16)
param_scheduler = [
    # mmengine counts the first rate as a step of the warm-up: the full rate is reached at end - 1.
    dict(type=LinearLR, start_factor=0.001, by_epoch=False, begin=0, end=501),
    dict(type=MultiStepLR, milestones=[8, 11], gamma=0.1, by_epoch=True, begin=0, end=12),
]
train_cfg = dict(type=EpochTrainLoop, max_epochs=12)
