"""Mask R-CNN with proposals on five levels, strides 4 to 64; the numbers of mmdetection. A config adds backbone and neck.

Pictures are padded to multiples of 32, after normalisation, with zeros.
"""

from mmcv.ops import RoIAlign
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.dense_heads import RPNHead
from mmdet.models.detectors import MaskRCNN
from mmdet.models.losses import CrossEntropyLoss, L1Loss
from mmdet.models.roi_heads import FCNMaskHead, Shared2FCBBoxHead, SingleRoIExtractor, StandardRoIHead
from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder, MaxIoUAssigner, RandomSampler

from internvl_mm.models.tasks.detect import Detector

_rpn_assigner = dict(
    type=MaxIoUAssigner, pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3, ignore_iof_thr=-1
)
_rcnn_assigner = dict(
    type=MaxIoUAssigner, pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, ignore_iof_thr=-1
)
_proposals = dict(nms_pre=1000, max_per_img=1000, nms=dict(iou_threshold=0.7), min_bbox_size=0)

model = dict(
    type=Detector,
    detector=dict(
        type=MaskRCNN,
        rpn_head=dict(
            type=RPNHead,
            in_channels=256,
            feat_channels=256,
            anchor_generator=dict(
                type=AnchorGenerator, scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]
            ),
            bbox_coder=dict(type=DeltaXYWHBBoxCoder),
            loss_cls=dict(type=CrossEntropyLoss, use_sigmoid=True),
            loss_bbox=dict(type=L1Loss),
        ),
        roi_head=dict(
            type=StandardRoIHead,
            bbox_roi_extractor=dict(
                type=SingleRoIExtractor,
                roi_layer=dict(type=RoIAlign, output_size=7, sampling_ratio=0),
                out_channels=256,
                featmap_strides=[4, 8, 16, 32],
            ),
            bbox_head=dict(
                type=Shared2FCBBoxHead,
                in_channels=256,
                num_classes=80,
                bbox_coder=dict(type=DeltaXYWHBBoxCoder, target_stds=[0.1, 0.1, 0.2, 0.2]),
                loss_cls=dict(type=CrossEntropyLoss),
                loss_bbox=dict(type=L1Loss),
            ),
            mask_roi_extractor=dict(
                type=SingleRoIExtractor,
                roi_layer=dict(type=RoIAlign, output_size=14, sampling_ratio=0),
                out_channels=256,
                featmap_strides=[4, 8, 16, 32],
            ),
            mask_head=dict(
                type=FCNMaskHead,
                num_convs=4,
                in_channels=256,
                conv_out_channels=256,
                num_classes=80,
                loss_mask=dict(type=CrossEntropyLoss, use_mask=True),
            ),
        ),
        train_cfg=dict(
            rpn=dict(
                assigner=_rpn_assigner,
                sampler=dict(type=RandomSampler, num=256, pos_fraction=0.5, add_gt_as_proposals=False),
                allowed_border=-1,
                pos_weight=-1,
                debug=False,
            ),
            rpn_proposal=dict(_proposals, nms_pre=2000),
            rcnn=dict(
                assigner=_rcnn_assigner,
                sampler=dict(type=RandomSampler, num=512, pos_fraction=0.25),
                mask_size=28,
                pos_weight=-1,
                debug=False,
            ),
        ),
        test_cfg=dict(
            rpn=_proposals,
            rcnn=dict(score_thr=0.05, nms=dict(iou_threshold=0.5), max_per_img=100, mask_thr_binary=0.5),
        ),
    ),
    data_preprocessor=dict(
        type=DetDataPreprocessor,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
    ),
)
