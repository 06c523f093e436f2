"""InternViT-6B-448px-V1-2: fixed 448, the last three blocks dropped, 5,536,496,000 parameters.

Weights: https://huggingface.co/OpenGVLab/InternViT-6B-448px-V1-2
"""

from mmengine.config import read_base

with read_base():
    from .intern_vit_6b_224px import backbone

backbone.update(image_size=448, num_hidden_layers=45, pretrained='pretrained/InternViT-6B-448px-V1-2')
