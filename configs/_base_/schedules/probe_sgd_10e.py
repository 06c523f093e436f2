"""The published probing recipe: Nesterov SGD, rate 0.1 per 512 images, 10 epochs with 1 of warm-up, clipping, EMA.

The cosine is evaluated at the absolute step, so the rate falls a little where the warm-up ends. No weight decay.
"""

from mmengine.optim import OptimWrapper
from torch.optim import SGD

from internvl_mm.engine.hooks import EMAHook
from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.engine.optim import CosineAbsolute

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0),
    clip_grad=dict(max_norm=5.0),
)
# The rate above is that of 512 images per update; the runner multiplies it by batch x processes / 512.
auto_scale_lr = dict(base_batch_size=512)
param_scheduler = [dict(type=CosineAbsolute, warmup=1, end=10, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type=EpochTrainLoop, max_epochs=10)
custom_hooks = [dict(type=EMAHook, decay=0.998)]
