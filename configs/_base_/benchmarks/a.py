"""ImageNet-A: 7,500 natural adversarial images; the 200 logits of its classes are scored. PIL decoding."""

from mmengine.config import read_base

from internvl_mm.data.datasets import ImageFolderDataset
from internvl_mm.evaluation.metrics import Accuracy

with read_base():
    from ..data.imagenet_eval import _loader, _transform_224

_a = dict(
    dataloader=dict(
        _loader,
        dataset=dict(
            type=ImageFolderDataset,
            name='a',
            root='data/imagenet-a',
            num_classes=200,
            transform=_transform_224,
        ),
    ),
    metrics=[dict(type=Accuracy, class_subset='imagenet_a')],
)
