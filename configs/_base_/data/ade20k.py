"""ADE20K, 20,210 training pictures at 504: 150 classes; label 0 is nothing, so that 150 becomes class 149 (reduce_zero_label of mmseg).

Expects data/ade/ADEChallengeData2016/images/training and data/ade/ADEChallengeData2016/annotations/training.
"""

from mmengine.config import read_base
from mmseg.datasets import ADE20KDataset

from internvl_mm.data.datasets import OpenMMLabDataset

with read_base():
    from .seg_504 import _train_loader, _train_pipeline

_ade20k_train = dict(
    type=OpenMMLabDataset,
    name='ade20k_train',
    on_error='replace',
    dataset=dict(
        type=ADE20KDataset,
        data_root='data/ade/ADEChallengeData2016',
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=_train_pipeline,
    ),
)
train_dataloader = dict(_train_loader, dataset=_ade20k_train)
