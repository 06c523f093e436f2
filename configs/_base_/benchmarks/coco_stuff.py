"""COCO-Stuff 164k validation: 5,000 pictures of 171 classes, mIoU at their own resolution."""

from mmengine.config import read_base
from mmseg.datasets import COCOStuffDataset

from internvl_mm.data.datasets import OpenMMLabDataset
from internvl_mm.evaluation.metrics import MeanIoU

with read_base():
    from ..data.seg_504 import _eval_loader, _test_pipeline

benchmarks = dict(
    coco_stuff=dict(
        dataloader=dict(
            _eval_loader,
            dataset=dict(
                type=OpenMMLabDataset,
                name='coco_stuff',
                dataset=dict(
                    type=COCOStuffDataset,
                    data_root='data/coco_stuff164k',
                    data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017'),
                    pipeline=_test_pipeline,
                ),
            ),
        ),
        metrics=[dict(type=MeanIoU)],
    ),
)
