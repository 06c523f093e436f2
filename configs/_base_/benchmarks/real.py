"""ImageNet-ReaL: 46,837 validation images with every class people saw in them; OpenCV decoding, as published."""

from mmengine.config import read_base

from internvl_mm.data.datasets import ImageNetReaLDataset
from internvl_mm.data.decode import ImageDecoder
from internvl_mm.evaluation.metrics import ReaLAccuracy

with read_base():
    from ..data.imagenet_eval import _loader, _transform_224

_real = dict(
    dataloader=dict(
        _loader,
        dataset=dict(
            type=ImageNetReaLDataset,
            name='real',
            root='data/imagenet-1k/val',
            list_file='data/imagenet-1k/meta_data/val.txt',
            real_file='data/imagenet-1k/real.json',
            decoder=dict(type=ImageDecoder, backend='cv2'),
            transform=_transform_224,
        ),
    ),
    metrics=[dict(type=ReaLAccuracy)],
)
