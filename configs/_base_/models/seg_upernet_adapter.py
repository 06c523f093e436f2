"""UperNet on the four maps of a ViT-Adapter at 512 pixels; windows of 512 every 341 pixels. A config adds the backbone."""

from mmengine.config import read_base

with read_base():
    from .seg_upernet import *

model.update(neck=None)
model['auxiliary_head'].update(in_index=2)
model['inference'].update(crop_size=512, stride=341)
model['data_preprocessor'].update(size=(512, 512))
