"""MSR-VTT retrieval: the 1,000 videos of 1k-A with one caption each, one frame; with dual softmax as published.

Command: python tools/test.py configs/zero_shot/msrvtt.py pretrained/InternVL-14B-224px
Data: videos below data/msrvtt/videos, msrvtt_1k_a.json beside the folder: a list of {video, caption}.
Hardware: one GPU of 40 GB in half precision (not run).
Expected: C, video to text R@1/5/10 35.3/56.6/66.6, text to video 37.5/60.9/70.9 (published; with dual softmax or
    without was not said). More frames: --cfg-options benchmarks.msrvtt.dataloader.dataset.frames.num_segments=8;
    the published choice of frames, which stops at many lengths: published=True.
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import VideoCaptionDataset
from internvl_mm.evaluation.metrics import DualSoftmaxRecall
from internvl_mm.preprocess.video import IntervalFrames, SegmentFrames

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _crop, _loader, _retrieve

_dataset = dict(
    type=VideoCaptionDataset, name='msrvtt', root='data/msrvtt/videos', file='data/msrvtt/msrvtt_1k_a.json',
    frames=dict(type=SegmentFrames, num_segments=1),
    published_frames=dict(type=IntervalFrames, num_segments=1), transform=_crop,
)  # fmt: skip
_metrics = [*_retrieve, dict(type=DualSoftmaxRecall, prefix='dual_softmax')]
benchmarks = dict(msrvtt=dict(dataloader=dict(_loader, dataset=_dataset), metrics=_metrics))
