"""Cityscapes, 2,975 training pictures at 504: 19 classes; label maps end in _gtFine_labelTrainIds.png.

Expects data/cityscapes/leftImg8bit/train and data/cityscapes/gtFine/train. The 2048×1024 pictures are scaled from that size.
"""

from mmcv.transforms import RandomResize
from mmengine.config import read_base
from mmseg.datasets import CityscapesDataset

from internvl_mm.data.datasets import OpenMMLabDataset
from internvl_mm.data.loading import LoadImage, LoadSegMap

with read_base():
    from .seg_504 import _augment, _train_loader

_city_pipeline = [
    dict(type=LoadImage),
    dict(type=LoadSegMap),
    dict(type=RandomResize, scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    *_augment,
]
train_dataloader = dict(
    _train_loader,
    dataset=dict(
        type=OpenMMLabDataset,
        name='cityscapes_train',
        on_error='replace',
        dataset=dict(
            type=CityscapesDataset,
            data_root='data/cityscapes',
            data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
            pipeline=_city_pipeline,
        ),
    ),
)
