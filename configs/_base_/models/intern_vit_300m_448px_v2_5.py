"""InternViT-300M-448px-V2_5: as InternViT-300M-448px, data of InternVL 2.5, 304,012,288 parameters.

Weights: https://huggingface.co/OpenGVLab/InternViT-300M-448px-V2_5
"""

from mmengine.config import read_base

with read_base():
    from .intern_vit_300m_448px import backbone

backbone.update(pretrained='pretrained/InternViT-300M-448px-V2_5')
