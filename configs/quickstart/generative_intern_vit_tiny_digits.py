"""Queries and cross-attention learn to match, contrast and describe DigitScenes, in English and Chinese (stage 2).

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/generative_intern_vit_tiny_digits.py
Start: a checkpoint of contrastive_intern_vit_tiny_digits.py.
Hardware: 2 CPU cores, fp32.
Expected: CIDEr-D 198.3 in English and 540.9 in Chinese, zero-shot top-1 96.7 (measured, seed 0).
"""

from mmengine.config import read_base

from internvl_mm.engine.hooks import SimilarityPicturesHook
from internvl_mm.preprocess.class_prompts import ClassPrompts

with read_base():
    from .._base_.benchmarks.digit_captioning import benchmarks as _captioning
    from .._base_.benchmarks.digit_pairs import benchmarks as _pairs
    from .._base_.data.digit_captions import *
    from .._base_.models.generative_tiny import *
    from .._base_.runtime import *
    from .._base_.schedules.align_muon import *

model['model'].update(pretrained='work_dirs/contrastive_intern_vit_tiny_digits')
model.update(
    class_prompts=dict(
        zero_shot=dict(
            type=ClassPrompts,
            names=('0', '1', '2', '3', '4', '5', '6', '7', '8', '9'),
            templates=('The picture shows one digit: {c}.',),
        ),
    ),
)
train_dataloader['dataset'].update(languages=('en', 'zh'), kinds=(0, 1), with_negative=True)
benchmarks = dict(_pairs, **_captioning)
# Zero-shot sentences are the captions of retrieval: one figure shows both.
default_hooks['similarity'] = dict(type=SimilarityPicturesHook, benchmarks=('retrieval',))
