"""A tiny InternViT for the CPU: built like the 6B (RMS norms, QK norm), 0.5 M parameters, 56×56 images of 4×4 patches."""

from internvl_mm.models.backbones import InternViT

backbone = dict(
    type=InternViT,
    hidden_size=96,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=384,
    image_size=56,
    initializer_factor=1.0,
)
