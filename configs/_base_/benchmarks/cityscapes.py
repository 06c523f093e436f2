"""Cityscapes validation: 500 pictures of 19 classes, mIoU at their own resolution."""

from mmengine.config import read_base
from mmseg.datasets import CityscapesDataset

from internvl_mm.data.datasets import OpenMMLabDataset
from internvl_mm.data.loading import LoadImage
from internvl_mm.evaluation.metrics import MeanIoU

with read_base():
    from ..data.seg_504 import _eval_loader, _finish

benchmarks = dict(
    cityscapes=dict(
        dataloader=dict(
            _eval_loader,
            dataset=dict(
                type=OpenMMLabDataset,
                name='cityscapes',
                dataset=dict(
                    type=CityscapesDataset,
                    data_root='data/cityscapes',
                    data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
                    pipeline=[dict(type=LoadImage), *_finish],
                ),
            ),
        ),
        metrics=[dict(type=MeanIoU)],
    ),
)
