"""How the ImageNet family is evaluated: short side to exactly the image size, centre crop, no 256/224 margin.

Helpers for the files in benchmarks/: a loader without a data set, and the transforms per image size.
"""

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.samplers import EvalSampler
from internvl_mm.preprocess.image import CenterCrop, ResizeShortSide

_loader = dict(
    batch_size=64,
    num_workers=8,
    sampler=dict(type=EvalSampler),
    collate_fn=dict(type=collate_samples),
)
_transform_224 = [dict(type=ResizeShortSide, size=224), dict(type=CenterCrop, size=224)]
_transform_448 = [dict(type=ResizeShortSide, size=448), dict(type=CenterCrop, size=448)]
