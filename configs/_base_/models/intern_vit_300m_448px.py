"""InternViT-300M-448px: distilled from the 6B V1-5, then next-token prediction; 304,012,288 parameters.

The published config has drop path 0.1; recipes that train it set it themselves.
Weights: https://huggingface.co/OpenGVLab/InternViT-300M-448px
"""

from internvl_mm.models.backbones import InternViT

backbone = dict(
    type=InternViT,
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
    image_size=448,
    norm_type='layer_norm',
    qk_normalization=False,
    qkv_bias=True,
    initializer_factor=1.0,
    pretrained='pretrained/InternViT-300M-448px',
)
