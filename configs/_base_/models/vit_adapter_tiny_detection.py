"""ViT-Adapter-Tiny for detection: width 192, windows of 14, every third block global; four maps, strides 4 to 32.

Weights of the ViT: deit_tiny_patch16_224-a1311bcf.pth of DeiT. Source: Chen et al. 2022 (arXiv 2205.08534).
"""

from internvl_mm.models.backbones import InternViT, ViTAdapter

backbone = dict(
    type=ViTAdapter,
    backbone=dict(
        type=InternViT,
        hidden_size=192,
        num_hidden_layers=12,
        num_attention_heads=3,
        intermediate_size=768,
        image_size=224,
        patch_size=16,
        norm_type='layer_norm',
        qk_normalization=False,
        qkv_bias=True,
        initializer_factor=1.0,
        drop_path_rate=0.1,
        use_class_token=False,
        window_size=14,
        window_padding='projected',
        global_blocks=(2, 5, 8, 11),
        pretrained='pretrained/deit_tiny_patch16_224-a1311bcf.pth',
    ),
    interactions=((0, 2), (3, 5), (6, 8), (9, 11)),
    deform_num_heads=6,
    deform_ratio=1.0,
    norm='batch',
    eps=1e-6,
    drop_path_rate=0.1,
)
