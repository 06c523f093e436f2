"""ATSS, one stage without masks, strides 8 to 128; the numbers of mmdetection. A config adds backbone and neck."""

from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.dense_heads import ATSSHead
from mmdet.models.detectors import ATSS
from mmdet.models.losses import CrossEntropyLoss, FocalLoss, GIoULoss
from mmdet.models.task_modules import AnchorGenerator, ATSSAssigner, DeltaXYWHBBoxCoder

from internvl_mm.models.tasks.detect import Detector

model = dict(
    type=Detector,
    detector=dict(
        type=ATSS,
        bbox_head=dict(
            type=ATSSHead,
            num_classes=80,
            in_channels=256,
            stacked_convs=4,
            feat_channels=256,
            anchor_generator=dict(
                type=AnchorGenerator,
                ratios=[1.0],
                octave_base_scale=8,
                scales_per_octave=1,
                strides=[8, 16, 32, 64, 128],
            ),
            bbox_coder=dict(type=DeltaXYWHBBoxCoder, target_stds=[0.1, 0.1, 0.2, 0.2]),
            loss_cls=dict(type=FocalLoss, use_sigmoid=True, gamma=2.0, alpha=0.25),
            loss_bbox=dict(type=GIoULoss, loss_weight=2.0),
            loss_centerness=dict(type=CrossEntropyLoss, use_sigmoid=True),
        ),
        train_cfg=dict(
            assigner=dict(type=ATSSAssigner, topk=9), allowed_border=-1, pos_weight=-1, debug=False
        ),
        test_cfg=dict(
            nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(iou_threshold=0.6), max_per_img=100
        ),
    ),
    data_preprocessor=dict(
        type=DetDataPreprocessor,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
)
