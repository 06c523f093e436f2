"""Kinetics-400: validation videos, 400 actions, 28 templates of CLIP, the middle frame.

Command: python tools/test.py configs/zero_shot/kinetics400.py pretrained/InternVL-14B-224px
Data: videos below data/kinetics400/val, val.csv beside the folder (the public copies of CVDF have both).
Hardware: one GPU of 40 GB in half precision (not run).
Expected: top-1 65.9, mean_top1_top5 76.1 (published, InternVL-C; the templates were not said).
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import KineticsDataset
from internvl_mm.evaluation.metrics import VideoAccuracy
from internvl_mm.evaluation.prompts import DatasetPrompts
from internvl_mm.preprocess.video import SegmentFrames

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _crop, _loader

_dataset = dict(
    type=KineticsDataset, name='kinetics400', root='data/kinetics400/val', file='data/kinetics400/val.csv',
    frames=dict(type=SegmentFrames, num_segments=1), num_classes=400, transform=_crop, on_error='skip',
)  # fmt: skip
benchmarks = dict(kinetics400=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='kinetics'),
    metrics=[dict(type=VideoAccuracy)],
))  # fmt: skip
