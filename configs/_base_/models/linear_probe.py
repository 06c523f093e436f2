"""Linear probing: batch norm and a linear layer on class token and mean patch token.

Published name: cls_patch_concat, 6,413,800 trainable parameters at width 3200. A config adds the frozen backbone.
"""

from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import ClsPatchConcat
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.preprocess.mixing import Mixing

model = dict(
    type=ImageClassifier,
    neck=dict(type=ClsPatchConcat),
    head=dict(type=LinearClsHead, num_classes=1000),
    data_preprocessor=dict(
        type=ImageDataPreprocessor,
        batch_augment=dict(type=Mixing, num_classes=1000, mixup=0.8, cutmix=1.0, smoothing=0.1),
    ),
)
