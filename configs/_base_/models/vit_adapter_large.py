"""ViT-Adapter-L, detection form: windows of 14, every sixth block global; 326,973,632 parameters.

AugReg-L is normalised with mean and std 127.5 and was trained at 384 pixels.
Weights of the ViT: AugReg. A whole published adapter checkpoint goes into ``pretrained`` of the adapter instead.
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
        pretrained='pretrained/L_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1.pth',
    ),
    interactions=((0, 5), (6, 11), (12, 17), (18, 23)),
    deform_num_heads=16,
    deform_ratio=0.5,
    drop_path_rate=0.4,
    norm='batch',
    eps=1e-6,
)
