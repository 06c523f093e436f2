"""ImageNet-1K training images at 448; everything else as at 224."""

from mmengine.config import read_base

from internvl_mm.preprocess.image import RandomFlip, RandomResizedCrop

with read_base():
    from .imagenet_224 import *

train_dataloader['dataset'].update(transform=[dict(type=RandomResizedCrop, size=448), dict(type=RandomFlip)])
