"""InternViT-300M-448px-Distill: distilled from the 6B V1-5 by cosine similarity, 304,012,288 parameters.

Weights: https://huggingface.co/OpenGVLab/InternViT-300M-448px-Distill
"""

from mmengine.config import read_base

with read_base():
    from .intern_vit_300m_448px import backbone

backbone.update(pretrained='pretrained/InternViT-300M-448px-Distill')
