"""ADE20K validation: 2,000 pictures of 150 classes, mIoU at their own resolution."""

from mmengine.config import read_base
from mmseg.datasets import ADE20KDataset

from internvl_mm.data.datasets import OpenMMLabDataset
from internvl_mm.evaluation.metrics import MeanIoU

with read_base():
    from ..data.seg_504 import _eval_loader, _test_pipeline

benchmarks = dict(
    ade20k=dict(
        dataloader=dict(
            _eval_loader,
            dataset=dict(
                type=OpenMMLabDataset,
                name='ade20k',
                dataset=dict(
                    type=ADE20KDataset,
                    data_root='data/ade/ADEChallengeData2016',
                    data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
                    pipeline=_test_pipeline,
                ),
            ),
        ),
        metrics=[dict(type=MeanIoU)],
    ),
)
