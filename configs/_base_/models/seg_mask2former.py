"""Mask2Former on four blocks: the published neck and a Mask2Former head of 100 queries.

A config adds the backbone with its tapped blocks and, for other data than ADE20K, the number of classes.
"""

from mmengine.config import read_base

from internvl_mm.models.heads.mask2former_seg import Mask2FormerSegHead
from internvl_mm.models.inference import SlideInference
from internvl_mm.models.necks import MultiScaleNeck
from internvl_mm.models.tasks.segment import Segmenter

with read_base():
    from .seg_preprocessor import data_preprocessor as _data_preprocessor

model = dict(
    type=Segmenter,
    neck=dict(type=MultiScaleNeck),
    decode_head=dict(type=Mask2FormerSegHead, num_classes=150),
    inference=dict(type=SlideInference, crop_size=504, stride=322),
    data_preprocessor=_data_preprocessor,
)
