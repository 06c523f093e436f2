"""Detectors of mmdetection on our backbones: the same numbers as theirs, precision, names of classes, mistakes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from internvl_mm.engine.optim import LayerDecay
from internvl_mm.models.necks import BackboneMaps, SimpleFeaturePyramid
from internvl_mm.models.tasks.detect import Detector
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import ConfigError, DataError
from tests.test_models.tiny_detectors import CHANNELS, CLASSES, KINDS, WIDTH, pictures, tiny_detector


def built(kind: str = 'mask_rcnn', **changes: Any) -> Detector:
    task = Detector(**dict(tiny_detector(kind), **changes))
    task.init_weights()
    return task


def test_three_kinds_of_heads() -> None:
    assert set(KINDS) == {'mask_rcnn', 'cascade_mask_rcnn', 'atss', 'dino'}


@pytest.mark.parametrize('kind', KINDS)
def test_losses_and_boxes_are_those_of_the_same_weights_in_mmdetection(kind: str) -> None:
    settings = tiny_detector(kind)
    task = built(kind).eval()
    neck = dict(settings['neck'], dim=WIDTH)
    theirs_settings = dict(settings['detector'], backbone=settings['backbone'], neck=neck)
    with DefaultScope.overwrite_default_scope('mmdet'):
        theirs = MODELS.build(ConfigDict(copy.deepcopy(theirs_settings))).eval()
    theirs.load_state_dict(
        {name: value for name, value in task.state_dict().items() if not name.startswith('data_preprocessor')}
    )
    pixels, samples = pictures()
    for part in (task, theirs):  # DINO adds noise to its queries in training only
        part.train()
    torch.manual_seed(1)
    ours = task(pixels, copy.deepcopy(samples), mode='loss')
    torch.manual_seed(1)
    other = theirs(pixels, copy.deepcopy(samples), mode='loss')
    assert list(ours) == list(other) and any('loss' in name for name in ours)
    for name, value in ours.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0)
    total, _ = task.parse_losses(ours)
    total.backward()
    without = [name for name, parameter in task.named_parameters() if parameter.grad is None]
    assert without == []
    task.eval(), theirs.eval()
    with torch.no_grad():
        mine = task(pixels, copy.deepcopy(samples), mode='predict')
        same = theirs(pixels, copy.deepcopy(samples), mode='predict')
    for one, two in zip(mine, same, strict=True):
        assert torch.equal(one.pred_instances.bboxes, two.pred_instances.bboxes)
        assert torch.equal(one.pred_instances.scores, two.pred_instances.scores)
        assert ('masks' in one.pred_instances) == ('mask' in kind)


@pytest.mark.parametrize('kind', KINDS)
def test_pictures_without_objects_give_finite_losses(kind: str) -> None:
    pixels, samples = pictures(objects=0)
    total, _ = built(kind).train().parse_losses(built(kind).train()(pixels, samples, mode='loss'))
    assert torch.isfinite(total)


def test_crowds_are_left_out_of_the_negatives_and_everything_has_one_name() -> None:
    task = built()
    names = list(task.state_dict())
    assert {name.split('.')[0] for name in names} == {'backbone', 'neck', 'rpn_head', 'roi_head'}
    assert len(names) == len(set(names))
    assert task.num_classes == CLASSES and task.width == WIDTH
    assert [tuple(level.shape) for level in task(torch.randn(2, 3, 64, 64))] == [
        (2, CHANNELS, side, side) for side in (16, 8, 4, 2, 1)
    ]


def test_copies_keep_their_parts_together() -> None:
    task = copy.deepcopy(built('dino'))
    assert task._detector.backbone is task.backbone and task._detector.level_embed is task.level_embed
    assert task.train()._detector.training and not task.eval()._detector.training
    assert task._detector.extract_feat.__self__ is task


def test_heads_compute_in_fp32_on_a_bf16_backbone() -> None:
    task = built().train()
    task.set_precision(torch.bfloat16)
    seen: dict[str, torch.dtype] = {}
    for name in ('backbone.encoder.layers.0.mlp.fc1', 'roi_head.bbox_head.fc_cls', 'neck.levels.0.4'):
        part = task.get_submodule(name)
        part.register_forward_hook(lambda m, args, out, name=name: seen.update({name: out.dtype}))
    pixels, samples = pictures()
    total, _ = task.parse_losses(task(pixels, samples, mode='loss'))
    total.backward()
    assert list(seen.values()) == [torch.bfloat16, torch.float32, torch.float32]
    assert total.dtype == torch.float32
    exact = built()
    exact.load_state_dict(task.state_dict())
    levels = zip(exact(pixels), task(pixels), strict=True)
    assert all((a - b).abs().max() < 0.1 * a.abs().max() for a, b in levels)


def test_layer_decay_and_freezing_reach_the_backbone() -> None:
    task = built()
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1))
    groups = LayerDecay(wrapper, dict(decay_rate=0.5)).groups(task)
    rates = {group['name']: group['lr'] for group in groups}
    assert rates['layer_0_decay'] == 0.125 and rates['layer_3_decay'] == 1.0
    settings = tiny_detector('mask_rcnn')
    frozen = built(backbone=dict(settings['backbone'], frozen='all'))
    assert not any(parameter.requires_grad for parameter in frozen.backbone.parameters())
    assert all(parameter.requires_grad for parameter in frozen.roi_head.parameters())


def test_a_neck_of_mmdetection_may_follow_ours() -> None:
    from mmdet.models.necks import FPN

    settings = tiny_detector('mask_rcnn')
    backbone = dict(settings['backbone'], out_indices=(0, 0, 1, 1))
    neck = [
        dict(type=BackboneMaps, dim=WIDTH, strides=(16.0,) * 4),
        dict(type=FPN, in_channels=[WIDTH] * 4, out_channels=CHANNELS, num_outs=5),
    ]
    pyramid = built(backbone=backbone, neck=neck)(torch.randn(1, 3, 64, 64))
    assert len(pyramid) == 5 and pyramid[0].shape == (1, CHANNELS, 4, 4)


def test_classes_are_compared_with_those_of_the_data() -> None:
    task = built()
    task.check_data(dict(name='data'))
    assert task.classes == ()
    with pytest.raises(DataError, match='data has 2 classes but the heads of MaskRCNN have num_classes=3'):
        task.check_data(dict(name='data', classes=('a', 'b')))
    task.check_data(dict(name='data', classes=('a', 'b', 'c')))
    assert task.classes == ('a', 'b', 'c')
    named = built(classes=('a', 'b', 'c'))
    named.check_data(dict(name='data', classes=['a', 'b', 'c']))
    with pytest.raises(DataError, match="class 1 is 'b' in model.classes but 'c' in data"):
        named.check_data(dict(name='data', classes=('a', 'c', 'b')))
    with pytest.raises(ConfigError, match='classes names 2 classes but the heads have num_classes=3'):
        built(classes=('a', 'b'))


def test_heads_that_do_not_fit_are_told() -> None:
    settings = tiny_detector('mask_rcnn')
    settings['detector']['roi_head']['mask_head']['num_classes'] = 5
    with pytest.raises(
        ConfigError, match=r'roi_head.bbox_head.num_classes=3, roi_head.mask_head.num_classes=5'
    ):
        Detector(**settings)
    with pytest.raises(ConfigError, match=r'strides \(3.5, .*\) but the anchors of rpn_head have \(4.0, '):
        built(neck=dict(type=SimpleFeaturePyramid, out_channels=CHANNELS, stride=14.0))
