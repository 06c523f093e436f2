"""Pascal Context validation: 5,104 pictures of 59 classes, mIoU at their own resolution."""

from mmengine.config import read_base
from mmseg.datasets import PascalContextDataset59

from internvl_mm.data.datasets import OpenMMLabDataset
from internvl_mm.evaluation.metrics import MeanIoU

with read_base():
    from ..data.seg_504 import _eval_loader, _test_pipeline

benchmarks = dict(
    pascal_context=dict(
        dataloader=dict(
            _eval_loader,
            dataset=dict(
                type=OpenMMLabDataset,
                name='pascal_context',
                dataset=dict(
                    type=PascalContextDataset59,
                    data_root='data/VOCdevkit/VOC2010',
                    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'),
                    ann_file='ImageSets/SegmentationContext/val.txt',
                    pipeline=_test_pipeline,
                ),
            ),
        ),
        metrics=[dict(type=MeanIoU)],
    ),
)
