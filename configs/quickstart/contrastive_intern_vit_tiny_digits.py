"""A tiny InternViT learns from captions of DigitScenes alone: contrastive pretraining (stage 1).

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/contrastive_intern_vit_tiny_digits.py
Hardware: 2 CPU cores, fp32.
Expected: zero-shot top-1 and image-to-text R@1 97.8 on 360 test digits (chance is 10; measured, seed 0).
"""

from mmengine.config import read_base

from internvl_mm.engine.hooks import SimilarityPicturesHook
from internvl_mm.engine.muon import MuonPartRates
from internvl_mm.preprocess.class_prompts import ClassPrompts

with read_base():
    from .._base_.benchmarks.digit_pairs import *
    from .._base_.data.digit_captions import *
    from .._base_.models.contrastive_tiny import *
    from .._base_.models.intern_vit_tiny import backbone as _backbone
    from .._base_.runtime import *
    from .._base_.schedules.scratch_muon import *

model.update(
    backbone=_backbone,
    class_prompts=dict(
        zero_shot=dict(
            type=ClassPrompts,
            names=('0', '1', '2', '3', '4', '5', '6', '7', '8', '9'),
            templates=('The picture shows one digit: {c}.',),
        ),
    ),
)
# Pictures learn as fast as from labels when the vectors of the sentences hardly move meanwhile (docs/log.md).
param_scheduler[0].update(end=36)
train_cfg.update(max_epochs=36, val_interval=36)
optim_wrapper['constructor'] = MuonPartRates
optim_wrapper['paramwise_cfg'] = dict(lr_mult=dict(text_encoder=0.05))
# Zero-shot sentences are the captions of retrieval: one figure shows both.
default_hooks['similarity'] = dict(type=SimilarityPicturesHook, benchmarks=('retrieval',))
