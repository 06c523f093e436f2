"""A tiny classifier without data, for tests of loading and checking."""

from mmengine.config import read_base
from mmengine.optim import LinearLR, OptimWrapper
from torch.optim import AdamW

from internvl_mm.models.backbones import InternViT
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import ClsPatchConcat
from internvl_mm.models.tasks import ImageClassifier

with read_base():
    from ._base_.runtime import *

_width = 8
model = dict(
    type=ImageClassifier,
    backbone=dict(
        type=InternViT,
        hidden_size=_width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * _width,
        image_size=28,
    ),
    neck=dict(type=ClsPatchConcat),
    head=dict(type=LinearClsHead, num_classes=10),
)
optim_wrapper = dict(
    type=OptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-3, betas=(0.9, 0.95)),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [dict(type=LinearLR, start_factor=0.1, by_epoch=False, end=2)]
