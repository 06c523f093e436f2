"""InternViT-6B-224px: contrastive stage, 48 blocks, 5,902,793,600 parameters.

Weights: https://huggingface.co/OpenGVLab/InternViT-6B-224px (the .pth also holds the image projector).
"""

from internvl_mm.models.backbones import InternViT

backbone = dict(
    type=InternViT,
    hidden_size=3200,
    num_hidden_layers=48,
    num_attention_heads=25,
    intermediate_size=12800,
    image_size=224,
    rms_rounding='fused',  # the published numbers were most likely made with apex installed
    pretrained='pretrained/intern_vit_6b_224px.pth',
)
