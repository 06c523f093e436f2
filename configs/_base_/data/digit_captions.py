"""DigitScenes, one digit and one English caption per image: 1,437 training digits, drawn anew in every epoch, 56×56."""

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import DigitCaptionDataset
from internvl_mm.data.samplers import EpochSampler

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,  # contrast needs as many pairs on every process
    sampler=dict(type=EpochSampler),
    collate_fn=dict(type=collate_samples),
    dataset=dict(
        type=DigitCaptionDataset,
        name='pairs_train',
        split='train',
        # Kind 1 says the digit alone: 'The picture shows one digit: 3.' With colours among the captions (kinds 0 and 1,
        # or all) a tiny model had learned colours but no digits after 300 to 440 iterations.
        kinds=(1,),
        # Shares of the canvas. A little smaller and farther from the centre than the test digits, so that features
        # serve scenes of several digits, too.
        sizes=(0.7, 0.95),
        shift=0.12,
    ),
)
