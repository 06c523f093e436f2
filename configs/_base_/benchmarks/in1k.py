"""ImageNet-1K validation: 50,000 images of 1,000 classes; OpenCV decoding, as published."""

from mmengine.config import read_base

from internvl_mm.data.datasets import ImageListDataset
from internvl_mm.data.decode import ImageDecoder
from internvl_mm.evaluation.metrics import Accuracy

with read_base():
    from ..data.imagenet_eval import _loader, _transform_224

_in1k = dict(
    dataloader=dict(
        _loader,
        dataset=dict(
            type=ImageListDataset,
            name='in1k',
            root='data/imagenet-1k/val',
            list_file='data/imagenet-1k/meta_data/val.txt',
            num_classes=1000,
            decoder=dict(type=ImageDecoder, backend='cv2'),
            transform=_transform_224,
        ),
    ),
    metrics=[dict(type=Accuracy)],
)
