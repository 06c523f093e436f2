"""Mask R-CNN sized for DigitScenes on a CPU: 64 channels, small heads, few proposals, strides 3.5 to 28.

The full-size heads of mask_rcnn.py take seconds per step on two cores.
"""

from mmengine.config import read_base

with read_base():
    from .mask_rcnn import *

_rpn, _roi = model['detector']['rpn_head'], model['detector']['roi_head']
# Digits are taller than wide; anchors are 28 to 224 pixels large.
_rpn['anchor_generator'].update(ratios=[1.0, 2.0], strides=[3.5, 7.0, 14.0, 28.0])
_rpn.update(in_channels=64, feat_channels=64)
_extractor = dict(out_channels=64, featmap_strides=[3.5, 7.0, 14.0, 28.0], finest_scale=28)
_roi['bbox_roi_extractor'].update(_extractor)
_roi['mask_roi_extractor'].update(_extractor)
# One sample per cell of a region: the backward pass of RoIAlign is what costs most on a CPU.
_roi['bbox_roi_extractor']['roi_layer'].update(sampling_ratio=1)
_roi['mask_roi_extractor']['roi_layer'].update(sampling_ratio=1)
_roi['bbox_head'].update(in_channels=64, fc_out_channels=256, num_classes=10)
_roi['mask_head'].update(num_convs=2, in_channels=64, conv_out_channels=32, num_classes=10)
_train, _test = model['detector']['train_cfg'], model['detector']['test_cfg']
_train['rpn']['sampler'].update(num=64)
_train['rpn_proposal'].update(nms_pre=200, max_per_img=64)
# Half of the few regions show a digit: background is learned soon.
_train['rcnn']['sampler'].update(num=16, pos_fraction=0.5)
_test['rpn'].update(nms_pre=200, max_per_img=64)
model['data_preprocessor'].update(pad_size_divisor=14)
