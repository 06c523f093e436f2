"""DigitScenes, one digit per image: 1,437 training digits, drawn anew and a little bent in every epoch, 56×56."""

from torchvision.transforms.v2 import RandomAffine

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import DigitSceneDataset
from internvl_mm.data.samplers import EpochSampler

# Handwriting varies in more ways than 1,437 scans show. Corners that come free turn grey; 2 is bilinear.
_bend = dict(
    type=RandomAffine,
    degrees=8,
    translate=(0.06, 0.06),
    scale=(0.88, 1.12),
    shear=(-8, 8, -8, 8),
    interpolation=2,
    fill=127,
)
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type=EpochSampler),
    collate_fn=dict(type=collate_samples),
    dataset=dict(type=DigitSceneDataset, name='digits_train', split='train', transform=[_bend]),
)
