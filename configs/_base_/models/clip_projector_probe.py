"""Probing on the frozen image projector of the contrastive model: batch norm and a linear layer on 768 values.

Published name: clip_projector, 770,536 trainable parameters. Only the original 224px file has the projector.
"""

from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import ClipProjector
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.preprocess.mixing import Mixing

model = dict(
    type=ImageClassifier,
    neck=dict(type=ClipProjector, pretrained='pretrained/intern_vit_6b_224px.pth'),
    head=dict(type=LinearClsHead, num_classes=1000),
    data_preprocessor=dict(
        type=ImageDataPreprocessor,
        batch_augment=dict(type=Mixing, num_classes=1000, mixup=0.8, cutmix=1.0, smoothing=0.1),
    ),
)
