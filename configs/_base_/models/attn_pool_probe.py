"""Attention-pooling probing: a trainable pooling block, batch norm and a linear layer.

Published name: attention_pooling, 44,199,400 trainable parameters at width 3200. A config adds the frozen backbone and
the number of heads.
"""

from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import AttentionPooling
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.preprocess.mixing import Mixing

model = dict(
    type=ImageClassifier,
    neck=dict(type=AttentionPooling),
    head=dict(type=LinearClsHead, num_classes=1000),
    data_preprocessor=dict(
        type=ImageDataPreprocessor,
        batch_augment=dict(type=Mixing, num_classes=1000, mixup=0.8, cutmix=1.0, smoothing=0.1),
    ),
)
