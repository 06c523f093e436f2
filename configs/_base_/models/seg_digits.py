"""What the segmentation quickstarts share: windows of 56 pixels every 28, and background that weighs less than digits."""

from mmengine.config import read_base
from mmseg.models import CrossEntropyLoss

from internvl_mm.models.inference import SlideInference

with read_base():
    from .seg_preprocessor import data_preprocessor

data_preprocessor.update(size=(56, 56))
_inference = dict(type=SlideInference, crop_size=56, stride=28, batch_size=64)
_loss = dict(
    type=CrossEntropyLoss,
    class_weight=[0.4, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
)
