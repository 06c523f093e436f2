"""Linear segmentation for the tiny InternViT: batch norm and a 1×1 convolution on the map of one block."""

from mmengine.config import read_base

from internvl_mm.models.heads.linear_seg import LinearSegHead
from internvl_mm.models.tasks.segment import Segmenter

with read_base():
    from .seg_digits import _loss
    from .seg_digits import data_preprocessor as _data_preprocessor

model = dict(
    type=Segmenter,
    decode_head=dict(type=LinearSegHead, num_classes=11, in_index=0, loss_decode=_loss),
    data_preprocessor=_data_preprocessor,
)
