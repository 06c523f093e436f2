"""Fine-tune the tiny InternViT on digits with a cosine classifier in place of the linear head.

Command: PYTHONPATH=. python tools/train.py projects/example/finetune_intern_vit_tiny_digits_cosine.py
Hardware: 2 CPU cores, about as long as its parent.
Expected: see README.md of this folder.
"""

from mmengine.config import read_base

from projects.example.cosine_head import CosineHead

with read_base():
    from ...configs.quickstart.finetune_intern_vit_tiny_digits import *

model['head'] = dict(type=CosineHead, num_classes=10)  # replaced, not merged: its settings differ
