"""DigitScenes, label maps: 1,437 whole scenes of up to five digits, 112×112, with their colours disturbed.

Expects data/digit_scenes, which tools/dataset_converters/digit_scenes.py writes. Classes: the background and ten digits.
"""

from mmseg.datasets import BaseSegDataset, PackSegInputs
from mmseg.datasets.transforms import PhotoMetricDistortion

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
    batch_size=8,
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
                dict(type=PhotoMetricDistortion),
                dict(type=PackSegInputs),
            ],
        ),
    ),
)
