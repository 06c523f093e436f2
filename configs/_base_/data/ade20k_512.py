"""ADE20K at 512, for ViT-Adapters: everything else as at 504."""

from mmcv.transforms import RandomResize
from mmengine.config import read_base
from mmseg.datasets.transforms import RandomCrop

with read_base():
    from .ade20k import *

train_dataloader['dataset']['dataset']['pipeline'][2] = dict(
    type=RandomResize, scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True
)
train_dataloader['dataset']['dataset']['pipeline'][3] = dict(
    type=RandomCrop, crop_size=(512, 512), cat_max_ratio=0.75
)
