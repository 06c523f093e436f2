"""ImageNetV2, matched frequency: 10,000 new images of 1,000 classes in folders 0 to 999; PIL decoding."""

from mmengine.config import read_base

from internvl_mm.data.datasets import ImageFolderDataset
from internvl_mm.evaluation.metrics import Accuracy

with read_base():
    from ..data.imagenet_eval import _loader, _transform_224

_v2 = dict(
    dataloader=dict(
        _loader,
        dataset=dict(
            type=ImageFolderDataset,
            name='v2',
            root='data/imagenetv2/imagenetv2-matched-frequency-format-val',
            labels='integer',
            num_classes=1000,
            transform=_transform_224,
        ),
    ),
    metrics=[dict(type=Accuracy)],
)
