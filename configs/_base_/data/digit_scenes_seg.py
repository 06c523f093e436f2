"""DigitScenes, label maps: crops of 56×56 pixels with a digit in them from 1,437 scenes of up to five, 112×112.

A crop is as large as the pictures the tiny backbone was trained on, whose positions thus keep their meaning. Expects data/digit_scenes, which tools/dataset_converters/digit_scenes.py writes. Classes: the background and ten digits.
"""

from mmcv.transforms import RandomResize
from mmseg.datasets import BaseSegDataset, PackSegInputs
from mmseg.datasets.transforms import PhotoMetricDistortion, RandomCrop

from internvl_mm.data.collate import collate_lists
from internvl_mm.data.datasets import OpenMMLabDataset
from internvl_mm.data.loading import LoadImage, LoadSegMap
from internvl_mm.data.samplers import EpochSampler

_classes = ('background', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
_files = dict(
    type=BaseSegDataset,
    data_root='data/digit_scenes/segmentation',
    data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
    metainfo=dict(classes=_classes),
)
train_dataloader = dict(
    batch_size=48,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type=EpochSampler),
    collate_fn=dict(type=collate_lists),
    dataset=dict(
        type=OpenMMLabDataset,
        name='scenes_train',
        dataset=dict(
            _files,
            pipeline=[
                dict(type=LoadImage),
                dict(type=LoadSegMap),
                dict(type=RandomResize, scale=(112, 112), ratio_range=(1.0, 1.3), keep_ratio=True),
                # A digit covers a sixth of a crop around it: more background than this means there is none.
                dict(type=RandomCrop, crop_size=(56, 56), cat_max_ratio=0.84),
                dict(type=PhotoMetricDistortion),
                dict(type=PackSegInputs),
            ],
        ),
    ),
)
