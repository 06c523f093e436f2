"""Full fine-tuning: layer norm and a linear layer on the mean patch token (raw features have no final norm).

A config adds the backbone.
"""

from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import MeanPatch
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.preprocess.mixing import Mixing

model = dict(
    type=ImageClassifier,
    neck=dict(type=MeanPatch),
    head=dict(type=LinearClsHead, num_classes=1000, norm='layer'),
    data_preprocessor=dict(
        type=ImageDataPreprocessor,
        batch_augment=dict(type=Mixing, num_classes=1000, mixup=0.8, cutmix=1.0, smoothing=0.1),
    ),
)
