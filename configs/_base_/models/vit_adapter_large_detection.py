"""ViT-Adapter-Large for detection: width 1024, windows of 14, every sixth block global; four maps, strides 4 to 32.

Weights of the ViT: the AugReg ViT-L/16 of timm at 384 pixels, which saw pixels of -1 to 1.
Source: Chen et al. 2022 (arXiv 2205.08534).
"""

from internvl_mm.models.backbones import InternViT, ViTAdapter

backbone = dict(
    type=ViTAdapter,
    backbone=dict(
        type=InternViT,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        image_size=384,
        patch_size=16,
        norm_type='layer_norm',
        qk_normalization=False,
        qkv_bias=True,
        initializer_factor=1.0,
        drop_path_rate=0.4,
        use_class_token=False,
        window_size=14,
        window_padding='projected',
        global_blocks=(5, 11, 17, 23),
        pretrained='pretrained/vit_large_patch16_augreg.pth',
    ),
    interactions=((0, 5), (6, 11), (12, 17), (18, 23)),
    deform_num_heads=16,
    deform_ratio=0.5,
    norm='batch',
    eps=1e-6,
    drop_path_rate=0.4,
)
