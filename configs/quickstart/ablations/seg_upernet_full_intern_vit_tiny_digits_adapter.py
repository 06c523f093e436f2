"""A ViT-Adapter of strides 4 to 32 around the tiny InternViT instead of the multi-scale neck; scenes padded to 128.

Command: OMP_NUM_THREADS=1 python tools/train.py configs/quickstart/ablations/seg_upernet_full_intern_vit_tiny_digits_adapter.py
Hardware: 1 CPU core, fp32; minutes.
Expected: mIoU 41.13 after 2 epochs (measured, seed 0, backbone of contrastive_intern_vit_tiny_digits.py; its parent 41.46):
    docs/results/ablations.md.
"""

from mmengine.config import read_base

from internvl_mm.models.necks import BackboneMaps

with read_base():
    from ..._base_.models.vit_adapter_digits import backbone as _adapter
    from ..seg_upernet_full_intern_vit_tiny_digits import *

model['backbone'] = _adapter
model['neck'] = dict(type=BackboneMaps, dim=96)
model['data_preprocessor'].update(size=(128, 128), test_cfg=dict(size=(128, 128)))
