"""ImageNet-1K training images at 224: random resized crop, flip; 128 images per process, 1,024 on 8 as published.

Expects data/imagenet-1k/train and data/imagenet-1k/meta_data/train.txt with lines "relative/path label".
"""

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import ImageListDataset
from internvl_mm.data.decode import ImageDecoder
from internvl_mm.data.samplers import EpochSampler
from internvl_mm.preprocess.image import RandomFlip, RandomResizedCrop

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type=EpochSampler),
    collate_fn=dict(type=collate_samples),
    dataset=dict(
        type=ImageListDataset,
        name='in1k_train',
        root='data/imagenet-1k/train',
        list_file='data/imagenet-1k/meta_data/train.txt',
        num_classes=1000,
        decoder=dict(type=ImageDecoder, backend='cv2'),
        on_error='replace',
        transform=[dict(type=RandomResizedCrop, size=224), dict(type=RandomFlip)],
    ),
)
