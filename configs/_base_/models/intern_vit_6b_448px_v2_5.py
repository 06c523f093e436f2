"""InternViT-6B-448px-V2_5: dynamic 448 tiles, data of InternVL 2.5, 45 blocks, 5,536,496,000 parameters.

Weights: https://huggingface.co/OpenGVLab/InternViT-6B-448px-V2_5
"""

from mmengine.config import read_base

with read_base():
    from .intern_vit_6b_224px import backbone

backbone.update(image_size=448, num_hidden_layers=45, pretrained='pretrained/InternViT-6B-448px-V2_5')
