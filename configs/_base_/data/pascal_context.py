"""Pascal Context, 4,996 training pictures at 504: 59 classes without the background.

Expects data/VOCdevkit/VOC2010/JPEGImages and data/VOCdevkit/VOC2010/SegmentationClassContext.
"""

from mmengine.config import read_base
from mmseg.datasets import PascalContextDataset59

from internvl_mm.data.datasets import OpenMMLabDataset

with read_base():
    from .seg_504 import _train_loader, _train_pipeline

train_dataloader = dict(
    _train_loader,
    dataset=dict(
        type=OpenMMLabDataset,
        name='pascal_context_train',
        on_error='replace',
        dataset=dict(
            type=PascalContextDataset59,
            data_root='data/VOCdevkit/VOC2010',
            data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'),
            ann_file='ImageSets/SegmentationContext/train.txt',
            pipeline=_train_pipeline,
        ),
    ),
)
