"""DigitScenes, one digit per image: 1,437 training digits on fresh backgrounds every epoch, 56×56."""

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import DigitSceneDataset
from internvl_mm.data.samplers import EpochSampler

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type=EpochSampler),
    collate_fn=dict(type=collate_samples),
    dataset=dict(type=DigitSceneDataset, name='digits_train', split='train'),
)
