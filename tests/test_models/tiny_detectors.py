"""The shipped detectors with heads small enough for tests, on a two-block ViT; and pictures with objects for them."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from internvl_mm.engine.config import load_config
from internvl_mm.engine.config.checking import resolve
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.necks import SimpleFeaturePyramid

KINDS = ('mask_rcnn', 'cascade_mask_rcnn', 'atss', 'dino')
CLASSES, WIDTH, CHANNELS, SIDE = 3, 16, 64, 64  # 64: two channels per group of the norms in ATSS


def tiny_detector(kind: str) -> dict[str, Any]:
    """Settings of :class:`Detector` from ``configs/_base_/models/<kind>.py``, all sizes reduced."""
    model = resolve(load_config(f'_base_/models/{kind}.py').model)
    model.pop('type')
    detector = model['detector']
    _shrink(detector)
    model['backbone'] = dict(
        type=InternViT,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=SIDE,
        patch_size=16,
        initializer_factor=1.0,
        out_indices=(1,),
    )
    stride = 32.0 if kind == 'atss' else 16.0  # one-stage heads begin at stride 8
    if kind == 'atss':
        model['backbone']['patch_size'] = 32
    model['neck'] = dict(type=SimpleFeaturePyramid, out_channels=CHANNELS, stride=stride)
    return model


def _shrink(settings: Any) -> None:
    """Smaller numbers wherever a key says what they are."""
    small = dict(
        num_classes=CLASSES,
        in_channels=CHANNELS,
        feat_channels=CHANNELS,
        conv_out_channels=CHANNELS,
        out_channels=CHANNELS,
        embed_dims=CHANNELS,
        feedforward_channels=CHANNELS,
        num_feats=CHANNELS // 2,
        stacked_convs=1,
        num_convs=1,
        num_layers=1,
        num_queries=10,
        num_dn_queries=4,
        nms_pre=50,
        max_per_img=20,
    )
    for key, value in settings.items() if isinstance(settings, dict) else enumerate(settings):
        if key in small:
            settings[key] = small[key]
        elif key == 'bbox_head' and isinstance(value, dict) and 'roi_feat_size' in value:
            value['fc_out_channels'] = CHANNELS
        if isinstance(value, (dict, list)):
            _shrink(value)


def pictures(count: int = 2, *, objects: int = 2) -> tuple[torch.Tensor, list[DetDataSample]]:
    """Normalised pixels and samples with random objects, as the data preprocessor gives them."""
    samples = []
    for index in range(count):
        corner = torch.rand(objects, 2) * SIDE / 2
        boxes = torch.cat([corner, corner + 8 + torch.rand(objects, 2) * SIDE / 3], dim=1)
        masks = torch.zeros(objects, SIDE, SIDE, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
            mask[y1:y2, x1:x2] = 1
        sample = DetDataSample(
            metainfo=dict(
                img_id=index,
                img_shape=(SIDE, SIDE),
                ori_shape=(SIDE, SIDE),
                pad_shape=(SIDE, SIDE),
                batch_input_shape=(SIDE, SIDE),
                scale_factor=(1.0, 1.0),
                dataset='toy',
                index=index,
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=boxes,
            labels=torch.randint(CLASSES, (objects,)),
            masks=BitmapMasks(masks.numpy(), SIDE, SIDE),
        )
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
        samples.append(sample)
    return torch.randn(count, 3, SIDE, SIDE), samples
