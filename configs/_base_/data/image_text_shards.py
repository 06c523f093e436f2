"""Image–text pairs from the web as webdataset shards (LAION, COYO, Wukong …), for images of 224×224.

Obtain: img2dataset with output_format=webdataset writes these shards; put them below data/pairs/.
"""

from internvl_mm.data.captions import PairFilter
from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import CaptionShardDataset
from internvl_mm.data.samplers import StreamSampler
from internvl_mm.preprocess import RandomResizedCrop

train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type=StreamSampler),
    collate_fn=dict(type=collate_samples),
    dataset=dict(
        type=CaptionShardDataset,
        name='pairs',
        shards='data/pairs/{00000..99999}.tar',
        filter=dict(type=PairFilter, min_words=3, min_side=64, max_aspect=3.0),
        transform=[dict(type=RandomResizedCrop, size=224, scale=(0.5, 1.0))],
        on_error='replace',
    ),
)
