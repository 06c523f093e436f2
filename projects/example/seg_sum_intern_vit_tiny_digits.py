"""Segment the digits of a scene with the tiny InternViT and a head that adds up four maps, in place of UperNet.

Command: PYTHONPATH=. python tools/train.py projects/example/seg_sum_intern_vit_tiny_digits.py
Hardware: 2 CPU cores, less than its parent.
Expected: see README.md of this folder.
"""

from mmengine.config import read_base

from projects.example.sum_head import SumHead

with read_base():
    from ...configs.quickstart.seg_upernet_full_intern_vit_tiny_digits import *

# replaced, not merged: its settings differ
model['decode_head'] = dict(type=SumHead, in_index=[0, 1, 2, 3], channels=32, num_classes=11)
