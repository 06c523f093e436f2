"""COCO-Stuff 164k, 118,287 training pictures at 504: 171 classes (the paper says 172); label maps end in _labelTrainIds.png.

Expects data/coco_stuff164k/images/train2017 and data/coco_stuff164k/annotations/train2017.
"""

from mmengine.config import read_base
from mmseg.datasets import COCOStuffDataset

from internvl_mm.data.datasets import OpenMMLabDataset

with read_base():
    from .seg_504 import _train_loader, _train_pipeline

train_dataloader = dict(
    _train_loader,
    dataset=dict(
        type=OpenMMLabDataset,
        name='coco_stuff_train',
        on_error='replace',
        dataset=dict(
            type=COCOStuffDataset,
            data_root='data/coco_stuff164k',
            data_prefix=dict(img_path='images/train2017', seg_map_path='annotations/train2017'),
            pipeline=_train_pipeline,
        ),
    ),
)
