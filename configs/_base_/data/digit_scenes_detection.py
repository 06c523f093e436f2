"""DigitScenes, up to five digits per scene with boxes and masks: 1,437 training scenes of 112×112; 4 per batch.

Digits are as large as in the single-digit pictures the backbone learned from; small batches give the most steps for the
time, since what follows the backbone costs a CPU nearly the same per picture in any batch.
"""

from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, Resize

from internvl_mm.data.collate import collate_lists
from internvl_mm.data.datasets.coco import CocoDetection
from internvl_mm.data.loading import LoadImage
from internvl_mm.data.samplers import EpochSampler

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type=EpochSampler),
    collate_fn=dict(type=collate_lists),
    dataset=dict(
        type=CocoDetection,
        name='digit_scenes_train',
        ann_file='data/digit_scenes/detection/annotations/instances_train.json',
        images='data/digit_scenes/scenes/train',
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadAnnotations, with_bbox=True, with_mask=True),
            dict(type=Resize, scale=(112, 112)),
            dict(type=PackDetInputs),
        ],
    ),
)
