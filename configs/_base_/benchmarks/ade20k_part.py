"""ADE20K validation as published for parts of the training set: the long side of a picture is at most 2016."""

from mmengine.config import read_base

with read_base():
    from .ade20k import *

benchmarks['ade20k']['dataloader']['dataset']['dataset']['pipeline'][1].update(scale=(2016, 504))
