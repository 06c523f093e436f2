"""COCO 2017 boxes and masks, 118,287 training pictures: (1333, 800) keeping the aspect, flip; 2 per process.

Expects data/coco/train2017 and data/coco/annotations/instances_train2017.json.
"""

from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, RandomFlip, Resize

from internvl_mm.data.collate import collate_lists
from internvl_mm.data.datasets.coco import CocoDetection
from internvl_mm.data.loading import LoadImage
from internvl_mm.data.samplers import EpochSampler

_load = dict(type=LoadImage)
_annotations = dict(type=LoadAnnotations, with_bbox=True, with_mask=True)
_flip = dict(type=RandomFlip, prob=0.5)
_pack = dict(type=PackDetInputs)
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type=EpochSampler),
    collate_fn=dict(type=collate_lists),
    dataset=dict(
        type=CocoDetection,
        name='coco_train',
        ann_file='data/coco/annotations/instances_train2017.json',
        images='data/coco/train2017',
        keep_empty=False,
        on_error='replace',
        pipeline=[_load, _annotations, dict(type=Resize, scale=(1333, 800), keep_ratio=True), _flip, _pack],
    ),
)
