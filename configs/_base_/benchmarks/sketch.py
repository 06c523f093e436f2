"""ImageNet-Sketch: 50,889 drawings of 1,000 classes; PIL decoding."""

from mmengine.config import read_base

from internvl_mm.data.datasets import ImageFolderDataset
from internvl_mm.evaluation.metrics import Accuracy

with read_base():
    from ..data.imagenet_eval import _loader, _transform_224

_sketch = dict(
    dataloader=dict(
        _loader,
        dataset=dict(
            type=ImageFolderDataset,
            name='sketch',
            root='data/imagenet-sketch',
            num_classes=1000,
            transform=_transform_224,
        ),
    ),
    metrics=[dict(type=Accuracy)],
)
