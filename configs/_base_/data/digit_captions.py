"""DigitScenes, one digit and one English caption per image: 1,437 training digits, drawn anew in every epoch, 56×56."""

from torchvision.transforms.v2 import RandomAffine

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import DigitCaptionDataset
from internvl_mm.data.samplers import EpochSampler

# Handwriting varies in more ways than 1,437 scans show; no shift, because captions say where the digit is.
_bend = dict(type=RandomAffine, degrees=8, shear=(-8, 8, -8, 8), interpolation=2, fill=127)
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,  # contrast needs as many pairs on every process
    sampler=dict(type=EpochSampler),
    collate_fn=dict(type=collate_samples),
    # Kind 1 says the digit alone: 'The picture shows one digit: 3.' With colours among the captions (kinds 0 and 1, or
    # all) this model had learned colours but no digits after 300 to 440 iterations.
    # Small and anywhere as well as large and central: scenes of several digits show them like that.
    dataset=dict(
        type=DigitCaptionDataset,
        name='pairs_train',
        split='train',
        kinds=(1,),
        sizes=(0.55, 0.95),
        shift=0.3,
        transform=[_bend],
    ),
)
