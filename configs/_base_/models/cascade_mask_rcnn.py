"""Cascade Mask R-CNN: three box heads of rising overlap; the numbers of mmdetection. A config adds backbone and neck."""

from mmcv.ops import RoIAlign
from mmdet.models.detectors import CascadeRCNN
from mmdet.models.losses import CrossEntropyLoss, SmoothL1Loss
from mmdet.models.roi_heads import CascadeRoIHead, Shared2FCBBoxHead, SingleRoIExtractor
from mmdet.models.task_modules import DeltaXYWHBBoxCoder, MaxIoUAssigner, RandomSampler
from mmengine.config import read_base

with read_base():
    from .mask_rcnn import *

_first = dict(
    type=Shared2FCBBoxHead,
    in_channels=256,
    num_classes=80,
    reg_class_agnostic=True,
    bbox_coder=dict(type=DeltaXYWHBBoxCoder, target_stds=[0.1, 0.1, 0.2, 0.2]),
    loss_cls=dict(type=CrossEntropyLoss),
    loss_bbox=dict(type=SmoothL1Loss),
)
_second = dict(_first, bbox_coder=dict(type=DeltaXYWHBBoxCoder, target_stds=[0.05, 0.05, 0.1, 0.1]))
_third = dict(_first, bbox_coder=dict(type=DeltaXYWHBBoxCoder, target_stds=[0.033, 0.033, 0.067, 0.067]))
_stage = dict(
    assigner=dict(
        type=MaxIoUAssigner,
        pos_iou_thr=0.5,
        neg_iou_thr=0.5,
        min_pos_iou=0.5,
        match_low_quality=False,
        ignore_iof_thr=-1,
    ),
    sampler=dict(type=RandomSampler, num=512, pos_fraction=0.25),
    mask_size=28,
    pos_weight=-1,
    debug=False,
)
_stage_60 = dict(_stage, assigner=dict(_stage['assigner'], pos_iou_thr=0.6, neg_iou_thr=0.6, min_pos_iou=0.6))
_stage_70 = dict(_stage, assigner=dict(_stage['assigner'], pos_iou_thr=0.7, neg_iou_thr=0.7, min_pos_iou=0.7))

model['detector'].update(type=CascadeRCNN)
model['detector']['rpn_head'].update(loss_bbox=dict(type=SmoothL1Loss, beta=0.1111))
model['detector']['roi_head'].update(
    type=CascadeRoIHead,
    num_stages=3,
    stage_loss_weights=[1, 0.5, 0.25],
    bbox_roi_extractor=dict(
        type=SingleRoIExtractor,
        roi_layer=dict(type=RoIAlign, output_size=7, sampling_ratio=0),
        out_channels=256,
        featmap_strides=[4, 8, 16, 32],
    ),
    bbox_head=[_first, _second, _third],
)
model['detector']['train_cfg']['rpn'].update(allowed_border=0)
model['detector']['train_cfg']['rpn_proposal'].update(max_per_img=2000)
model['detector']['train_cfg'].update(rcnn=[_stage, _stage_60, _stage_70])
