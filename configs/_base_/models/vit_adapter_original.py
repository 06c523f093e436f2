"""The original ViT-Adapter as Chen et al. 2022 (arXiv 2205.08534) detect with it; a size adds widths and weights.

Twelve blocks with windows of 14 patches, every third global; batch norms; four maps of strides 4 to 32. Layer scales
are 1: the plain ViTs it starts from have none.
"""

from internvl_mm.models.backbones import InternViT, ViTAdapter

backbone = dict(
    type=ViTAdapter,
    backbone=dict(
        type=InternViT,
        num_hidden_layers=12,
        image_size=224,
        patch_size=16,
        norm_type='layer_norm',
        qk_normalization=False,
        qkv_bias=True,
        initializer_factor=1.0,
        use_class_token=False,
        window_size=14,
        window_padding='projected',
        global_blocks=(2, 5, 8, 11),
    ),
    interactions=((0, 2), (3, 5), (6, 8), (9, 11)),
    norm='batch',
    eps=1e-6,
)
