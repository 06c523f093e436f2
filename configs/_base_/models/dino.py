"""DINO with 900 queries on five levels, strides 4 to 64, without masks; the numbers of mmdetection.

A config adds backbone and neck. mmdetection's own has four levels from stride 8; ours takes what both pyramids give.
"""

from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.dense_heads import DINOHead
from mmdet.models.detectors import DINO
from mmdet.models.losses import FocalLoss, GIoULoss, L1Loss
from mmdet.models.task_modules import BBoxL1Cost, FocalLossCost, HungarianAssigner, IoUCost

from internvl_mm.models.tasks.detect import Detector

_ffn = dict(embed_dims=256, feedforward_channels=2048, ffn_drop=0.0)
_deformable = dict(embed_dims=256, num_levels=5, dropout=0.0)

model = dict(
    type=Detector,
    detector=dict(
        type=DINO,
        num_queries=900,
        num_feature_levels=5,
        with_box_refine=True,
        as_two_stage=True,
        encoder=dict(num_layers=6, layer_cfg=dict(self_attn_cfg=_deformable, ffn_cfg=_ffn)),
        decoder=dict(
            num_layers=6,
            return_intermediate=True,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=256, num_heads=8, dropout=0.0),
                cross_attn_cfg=_deformable,
                ffn_cfg=_ffn,
            ),
            post_norm_cfg=None,
        ),
        positional_encoding=dict(num_feats=128, normalize=True, offset=0.0, temperature=20),
        bbox_head=dict(
            type=DINOHead,
            embed_dims=256,
            num_classes=80,
            sync_cls_avg_factor=True,
            loss_cls=dict(type=FocalLoss, use_sigmoid=True, gamma=2.0, alpha=0.25),
            loss_bbox=dict(type=L1Loss, loss_weight=5.0),
            loss_iou=dict(type=GIoULoss, loss_weight=2.0),
        ),
        dn_cfg=dict(
            label_noise_scale=0.5,
            box_noise_scale=1.0,
            group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=100),
        ),
        train_cfg=dict(
            assigner=dict(
                type=HungarianAssigner,
                match_costs=[
                    dict(type=FocalLossCost, weight=2.0),
                    dict(type=BBoxL1Cost, weight=5.0, box_format='xywh'),
                    dict(type=IoUCost, iou_mode='giou', weight=2.0),
                ],
            )
        ),
        test_cfg=dict(max_per_img=300),
    ),
    data_preprocessor=dict(
        type=DetDataPreprocessor,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
)
