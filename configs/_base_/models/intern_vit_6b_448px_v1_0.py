"""InternViT-6B-448px-V1-0: next-token prediction at a fixed 448, 48 blocks, 5,905,251,200 parameters.

Weights: https://huggingface.co/OpenGVLab/InternViT-6B-448px-V1-0
"""

from mmengine.config import read_base

with read_base():
    from .intern_vit_6b_224px import backbone

backbone.update(image_size=448, pretrained='pretrained/InternViT-6B-448px-V1-0')
