"""Stage 1: InternViT-6B and a Llama-7B text tower from 28.7 billion pairs, 196 pixels half masked, then 224.

Command: torchrun --nnodes 80 --nproc_per_node 8 tools/train.py \
    configs/pretrain/contrastive_internvl_c_224px.py --launcher pytorch
Hardware: 640 × 80 GB as in the paper, 256 pairs per process (not run).
Expected: zero-shot IN-1K 83.2 is published for the result; rates, decay, warm-up, drop path and batch are those of the
    paper (its table 20), not run.
"""

from mmengine.config import read_base

from internvl_mm.engine.hooks import ResolutionSchedule
from internvl_mm.engine.part_rates import PartRates

with read_base():
    from .._base_.benchmarks.flickr30k_retrieval_364 import *
    from .._base_.data.image_text_shards import *
    from .._base_.models.contrastive_internvl_c import *
    from .._base_.models.intern_vit_6b_224px import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.pretrain_adamw_175k import *
    from .._base_.strategies.zero3 import *

# The same rate in every block.
model.update(
    backbone=dict(_backbone, pretrained=None, gradient_checkpointing=True, drop_path_rate=(0.2,) * 48)
)
# 1e-3 for the new ViT, 1e-4 for the Llama, which has learned already.
optim_wrapper['constructor'] = PartRates
optim_wrapper['paramwise_cfg'] = dict(lr_mult=dict(text_encoder=0.1))
benchmarks['flickr30k']['dataloader']['dataset']['transform'][0].update(size=224)
# The last 0.5 billion pairs at full size and unmasked.
custom_hooks = [dict(type=ResolutionSchedule, stages=[(0, 196, 0.5), (171_950, 224, 0.0)])]
