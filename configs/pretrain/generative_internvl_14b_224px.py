"""Stage 2: queries and cross-attention of QLLaMA learn matching, contrast and captioning; all else is frozen.

Command: torchrun --nnodes 20 --nproc_per_node 8 tools/train.py \
    configs/pretrain/generative_internvl_14b_224px.py --launcher pytorch
Hardware: 160 × 80 GB as in the paper, 128 pairs per process (not run).
Start: model.model.pretrained is the checkpoint of stage 1, or the published internvl_c_13b_224px.pth.
Expected: the published InternVL-14B-224px; rates, batch and length are those of the paper (its table 20), not run.
"""

from mmengine.config import read_base

from internvl_mm.models.tasks import GenerativePretraining
from internvl_mm.preprocess.batch import ImageDataPreprocessor

with read_base():
    from .._base_.benchmarks.flickr30k_retrieval_364 import *
    from .._base_.data.image_text_shards import *
    from .._base_.models.internvl_14b_224px import aligner as _aligner
    from .._base_.models.internvl_14b_224px import tokenizer as _tokenizer
    from .._base_.runtime import *
    from .._base_.schedules.pretrain_adamw_175k import *
    from .._base_.strategies.zero3 import *

model = dict(
    type=GenerativePretraining,
    model=dict(
        _aligner,
        pretrained='pretrained/internvl_c_13b_224px.pth',
        trainable=('queries', 'cross_attention', 'query_pool', 'matching_head', 'temperature'),
        gradient_checkpointing=True,
    ),
    tokenizer=_tokenizer,
    data_preprocessor=dict(type=ImageDataPreprocessor),
)
train_dataloader.update(batch_size=128)
train_dataloader['dataset'].update(with_negative=True)
benchmarks['flickr30k']['dataloader']['dataset']['transform'][0].update(size=224)
optim_wrapper['optimizer'].update(lr=5e-5, betas=(0.9, 0.98), weight_decay=0.05)
param_scheduler[0].update(warmup=2000, end=80_000)
train_cfg.update(max_iters=80_000)
