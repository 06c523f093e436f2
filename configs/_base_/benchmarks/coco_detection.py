"""COCO 2017 validation: 5,000 pictures at (1333, 800), box and mask AP; detectors without masks say kinds=('bbox',)."""

from mmdet.datasets.transforms import PackDetInputs, Resize

from internvl_mm.data.collate import collate_lists
from internvl_mm.data.datasets.coco import CocoDetection
from internvl_mm.data.loading import LoadImage
from internvl_mm.data.samplers import EvalSampler
from internvl_mm.evaluation.metrics.coco import CocoAP

benchmarks = dict(
    coco=dict(
        dataloader=dict(
            batch_size=1,
            num_workers=4,
            sampler=dict(type=EvalSampler),
            collate_fn=dict(type=collate_lists),
            dataset=dict(
                type=CocoDetection,
                name='coco',
                ann_file='data/coco/annotations/instances_val2017.json',
                images='data/coco/val2017',
                on_error='skip',
                pipeline=[
                    dict(type=LoadImage),
                    dict(type=Resize, scale=(1333, 800), keep_ratio=True),
                    dict(type=PackDetInputs, meta_keys=['img_id', 'ori_shape', 'img_shape', 'scale_factor']),
                ],
            ),
        ),
        metrics=[
            dict(type=CocoAP, ann_file='data/coco/annotations/instances_val2017.json', kinds=('bbox', 'segm'))
        ],
    ),
)
