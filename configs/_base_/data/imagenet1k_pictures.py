"""ImageNet-1K validation pictures for zero-shot evaluation: one data set under one name, so that languages share them."""

from mmengine.config import read_base

from internvl_mm.data.datasets import ImageListDataset

with read_base():
    from .zero_shot_crops import _crop

_imagenet1k = dict(
    type=ImageListDataset,
    name='imagenet1k',
    root='data/imagenet-1k/val',
    list_file='data/imagenet-1k/meta_data/val.txt',
    num_classes=1000,
    transform=_crop,
)
