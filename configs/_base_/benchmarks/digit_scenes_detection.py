"""DigitScenes detection: 360 test scenes, none of whose digits is a training digit."""

from mmdet.datasets.transforms import PackDetInputs, Resize

from internvl_mm.data.collate import collate_lists
from internvl_mm.data.datasets.coco import CocoDetection
from internvl_mm.data.loading import LoadImage
from internvl_mm.data.samplers import EvalSampler
from internvl_mm.evaluation.metrics.coco import CocoAP

benchmarks = dict(
    digit_scenes=dict(
        dataloader=dict(
            batch_size=20,
            sampler=dict(type=EvalSampler),
            collate_fn=dict(type=collate_lists),
            dataset=dict(
                type=CocoDetection,
                name='digit_scenes',
                ann_file='data/digit_scenes/detection/annotations/instances_test.json',
                images='data/digit_scenes/scenes/test',
                pipeline=[
                    dict(type=LoadImage),
                    dict(type=Resize, scale=(112, 112)),
                    dict(type=PackDetInputs, meta_keys=['img_id', 'ori_shape', 'img_shape', 'scale_factor']),
                ],
            ),
        ),
        metrics=[
            dict(
                type=CocoAP,
                ann_file='data/digit_scenes/detection/annotations/instances_test.json',
                kinds=('bbox', 'segm'),
            )
        ],
    ),
)
