"""PatchCamelyon: 32,768 test patches, 2 classes, 2 templates.

Command: python tools/test.py configs/zero_shot/pcam.py pretrained/InternVL-14B-224px
Hardware: one GPU of 40 GB in half precision (not run).
Expected: no number was published for this model; not run.
"""

from mmengine.config import read_base

from internvl_mm.data.datasets import TarShardDataset
from internvl_mm.evaluation.prompts import DatasetPrompts

with read_base():
    from .._base_.zero_shot import *
    from .._base_.zero_shot import _classify, _crop, _loader

_dataset = dict(
    type=TarShardDataset, name='pcam', shards='data/wds_vtab-pcam/test/*.tar', num_classes=2,
    transform=_crop,
)  # fmt: skip
benchmarks = dict(pcam=dict(
    dataloader=dict(_loader, dataset=_dataset),
    prompts=dict(type=DatasetPrompts, dataset='pcam'),
    metrics=_classify,
))  # fmt: skip
