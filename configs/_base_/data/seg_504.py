"""How segmentation pictures are read at 504 pixels, as published: 36×36 patches of 14 pixels.

Helpers for the files of the data sets. Training: short side 504 times 0.5 to 2, random crop of which no class fills
more than 75 %, flip, colour jitter. Testing: short side 504, then both sides up to a multiple of 14 by a second
resampling, which changes the aspect a little; label maps keep their own size, at which mIoU is computed.
"""

from mmcv.transforms import RandomFlip, RandomResize, Resize
from mmseg.datasets import PackSegInputs
from mmseg.datasets.transforms import PhotoMetricDistortion, RandomCrop, ResizeToMultiple

from internvl_mm.data.collate import collate_lists
from internvl_mm.data.loading import LoadImage, LoadSegMap
from internvl_mm.data.samplers import EvalSampler, StreamSampler

_augment = [
    dict(type=RandomCrop, crop_size=(504, 504), cat_max_ratio=0.75),
    dict(type=RandomFlip, prob=0.5),
    dict(type=PhotoMetricDistortion),
    dict(type=PackSegInputs),
]
_train_pipeline = [
    dict(type=LoadImage),
    dict(type=LoadSegMap),
    dict(type=RandomResize, scale=(2016, 504), ratio_range=(0.5, 2.0), keep_ratio=True),
    *_augment,
]
_finish = [dict(type=ResizeToMultiple, size_divisor=14), dict(type=LoadSegMap), dict(type=PackSegInputs)]
# The long side has no limit (the published SETR_Resize).
_test_pipeline = [
    dict(type=LoadImage),
    dict(type=Resize, scale=(1_000_000, 504), keep_ratio=True),
    *_finish,
]
_train_loader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type=StreamSampler),
    collate_fn=dict(type=collate_lists),
)
# One picture at a time: sizes differ. Its windows share forward passes.
_eval_loader = dict(
    batch_size=1,
    num_workers=4,
    sampler=dict(type=EvalSampler),
    collate_fn=dict(type=collate_lists),
)
