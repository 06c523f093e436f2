"""Linear segmentation: batch norm and a 1×1 convolution on the map of one block, resampled to the picture.

486,550 trainable parameters at width 3200 and 150 classes. A config adds the backbone with its tapped block and, for
other data than ADE20K, the number of classes.
"""

from mmengine.config import read_base

from internvl_mm.models.heads.linear_seg import LinearSegHead
from internvl_mm.models.inference import SlideInference
from internvl_mm.models.tasks.segment import Segmenter

with read_base():
    from .seg_preprocessor import data_preprocessor as _data_preprocessor

model = dict(
    type=Segmenter,
    decode_head=dict(type=LinearSegHead, num_classes=150, in_index=0),
    inference=dict(type=SlideInference, crop_size=504, stride=322),
    data_preprocessor=_data_preprocessor,
)
