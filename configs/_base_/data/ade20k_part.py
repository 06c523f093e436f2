"""A part of ADE20K's training pictures, chosen once and written to data/ade/subsets. A config names the part."""

from mmengine.config import read_base

from internvl_mm.data.datasets import RandomPartDataset

with read_base():
    from .ade20k import _ade20k_train
    from .seg_504 import _train_loader

train_dataloader = dict(
    _train_loader,
    dataset=dict(
        type=RandomPartDataset,
        dataset=_ade20k_train,
        part=16,
        subset_file='data/ade/subsets/1of16.json',
    ),
)
