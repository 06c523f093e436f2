"""ImageNet-R: 30,000 renditions; the 200 logits of its classes are scored. PIL decoding."""

from mmengine.config import read_base

from internvl_mm.data.datasets import ImageFolderDataset
from internvl_mm.evaluation.metrics import Accuracy

with read_base():
    from ..data.imagenet_eval import _loader, _transform_224

_r = dict(
    dataloader=dict(
        _loader,
        dataset=dict(
            type=ImageFolderDataset,
            name='r',
            root='data/imagenet-r',
            num_classes=200,
            transform=_transform_224,
        ),
    ),
    metrics=[dict(type=Accuracy, class_subset='imagenet_r')],
)
