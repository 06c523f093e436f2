"""LVIS v1 boxes and masks, 1,203 classes, 100,170 training pictures; rare classes repeat, short side 640 to 800.

Expects data/lvis/annotations/lvis_v1_train.json and the pictures of COCO 2017 in data/coco.
"""

from mmcv.transforms import RandomChoiceResize
from mmengine.config import read_base

with read_base():
    from .coco_detection import *

# mmcv's own resizing, the default, knows no boxes of mmdetection
_resize = dict(
    type=RandomChoiceResize,
    resize_type='mmdet.Resize',
    scales=[(1333, 640), (1333, 672), (1333, 704), (1333, 736), (1333, 768), (1333, 800)],
    keep_ratio=True,
)
train_dataloader['dataset'].update(
    name='lvis_train',
    ann_file='data/lvis/annotations/lvis_v1_train.json',
    images='data/coco',
    repeat_below=0.001,
    pipeline=[_load, _annotations, _resize, _flip, _pack],
)
