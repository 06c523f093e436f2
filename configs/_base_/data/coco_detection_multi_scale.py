"""coco_detection.py with the scales and crops of DETR, then crops of at most 1024×1024: the published 3x training."""

from mmcv.transforms import RandomChoice, RandomChoiceResize
from mmdet.datasets.transforms import RandomCrop
from mmengine.config import read_base

with read_base():
    from .coco_detection import *

# mmcv's own resizing, the default, knows no boxes of mmdetection
_scales = dict(
    type=RandomChoiceResize,
    resize_type='mmdet.Resize',
    scales=[
        (1333, 480),
        (1333, 512),
        (1333, 544),
        (1333, 576),
        (1333, 608),
        (1333, 640),
        (1333, 672),
        (1333, 704),
        (1333, 736),
        (1333, 768),
        (1333, 800),
    ],
    keep_ratio=True,
)
_enlarge = dict(
    type=RandomChoiceResize,
    resize_type='mmdet.Resize',
    scales=[(1333, 400), (1333, 500), (1333, 600)],
    keep_ratio=True,
)
_crop = dict(type=RandomCrop, crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True)
_last_crop = dict(
    type=RandomCrop, crop_type='absolute_range', crop_size=(1024, 1024), allow_negative_crop=True
)
_augment = dict(type=RandomChoice, transforms=[[_scales], [_enlarge, _crop, _scales]])

train_dataloader['dataset'].update(pipeline=[_load, _annotations, _flip, _augment, _last_crop, _pack])
