"""Flickr30k captions to fine-tune retrieval on, one pair per (image, caption), 364×364.

Obtain: images below data/flickr30k/Images, flickr30k_train_karpathy.txt beside it (published with InternVL).
"""

from internvl_mm.data.captions import CleanCaption
from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import CaptionListDataset
from internvl_mm.data.samplers import EpochSampler
from internvl_mm.preprocess import RandomFlip, RandomResizedCrop

train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type=EpochSampler),
    collate_fn=dict(type=collate_samples),
    dataset=dict(
        type=CaptionListDataset,
        name='flickr30k_train',
        root='data/flickr30k/Images',
        file='data/flickr30k/flickr30k_train_karpathy.txt',
        caption_transform=dict(type=CleanCaption),
        transform=[dict(type=RandomResizedCrop, size=364, scale=(0.5, 1.0)), dict(type=RandomFlip)],
        with_negative=True,
    ),
)
