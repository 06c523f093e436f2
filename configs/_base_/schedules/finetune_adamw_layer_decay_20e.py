"""Fine-tuning with layer-wise rates: AdamW, 20 epochs with 2 of warm-up, rate 5e-5 per 512 images at the head.

Ours, in the manner of BEiT and EVA; InternVL published no classification fine-tuning.
"""

from mmengine.optim import OptimWrapper
from torch.optim import AdamW

from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.engine.optim import CosineAbsolute, LayerDecay

optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=5e-5, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    constructor=LayerDecay,
    paramwise_cfg=dict(decay_rate=0.9),
)
auto_scale_lr = dict(base_batch_size=512)
param_scheduler = [dict(type=CosineAbsolute, warmup=2, end=20, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(type=EpochTrainLoop, max_epochs=20)
