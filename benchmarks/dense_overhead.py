"""Training steps of UperNet and Mask R-CNN through our tasks against the same parts run by stock mmseg and mmdet.

Both sides have the same backbone, neck, heads, weights and batch, so that their operations are equal, and take a whole
step with mmengine's optimiser wrapper. The gate: equal losses before anything is timed. Heads are those of the
quickstart: the smaller the step, the more any overhead shows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch import nn

from benchmarks.harness import Row, compare, interleave
from internvl_mm.engine.config import load_config
from internvl_mm.engine.config.checking import resolve
from internvl_mm.models.necks import SimpleFeaturePyramid
from internvl_mm.registry import MODELS

BATCH, SIDE, CLASSES, OBJECTS = 4, 112, 10, 3
GATE = 1e-6  # of the loss
GOAL = 0.97  # of the peer's speed
DETECTION, SEGMENTATION = 'Mask R-CNN', 'UperNet'


def settings(what: str) -> dict[str, Any]:
    """A task of the quickstart on its tiny backbone."""
    base = {DETECTION: 'mask_rcnn_digits', SEGMENTATION: 'seg_upernet_digits'}[what]
    model = resolve(load_config(f'_base_/models/{base}.py').model)
    backbone = resolve(load_config('_base_/models/intern_vit_tiny.py').backbone)
    taps = (3,) if what == DETECTION else (0, 1, 2, 3)
    model['backbone'] = dict(backbone, out_indices=taps)
    if what == DETECTION:
        model['neck'] = dict(type=SimpleFeaturePyramid, out_channels=64, stride=14, num_outs=4)
    return model


def stock(what: str, model: dict[str, Any]) -> nn.Module:
    """The same parts put together by mmdet or mmseg."""
    from mmseg.models import EncoderDecoder

    model = copy.deepcopy(model)
    width = model['backbone']['hidden_size']
    parts = dict(
        backbone=model['backbone'],
        neck=dict(model['neck'], dim=width),
        data_preprocessor=model['data_preprocessor'],
    )
    if what == DETECTION:
        config, scope = dict(model['detector'], **parts), 'mmdet'
    else:
        heads = {name: dict(model[name]) for name in ('decode_head', 'auxiliary_head') if name in model}
        for head in heads.values():
            several = isinstance(head['in_index'], (list, tuple))
            head['in_channels'] = [width] * len(head['in_index']) if several else width
        config, scope = dict(type=EncoderDecoder, **heads, **parts, test_cfg=dict(mode='whole')), 'mmseg'
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(ConfigDict(config))


def batch(what: str) -> dict[str, Any]:
    """Random pictures with labels, as the data loader gives them."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(0)
    pictures = list(torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator))
    samples = []
    for _ in range(BATCH):
        size = dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE), scale_factor=(1.0, 1.0))
        if what == SEGMENTATION:
            labels = torch.randint(CLASSES, (1, SIDE, SIDE), generator=generator)
            samples.append(SegDataSample(metainfo=size, gt_sem_seg=PixelData(data=labels)))
            continue
        corner = torch.rand(OBJECTS, 2, generator=generator) * SIDE / 2
        boxes = torch.cat([corner, corner + SIDE / 3], dim=1)
        masks = torch.zeros(OBJECTS, SIDE, SIDE, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
            mask[y1:y2, x1:x2] = 1
        labels = torch.randint(CLASSES, (OBJECTS,), generator=generator)
        objects = InstanceData(bboxes=boxes, labels=labels, masks=BitmapMasks(masks.numpy(), SIDE, SIDE))
        none = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
        samples.append(DetDataSample(metainfo=size, gt_instances=objects, ignored_instances=none))
    return dict(inputs=pictures, data_samples=samples)


def steps(what: str) -> dict[str, Callable[[], float]]:
    """One training step of each side, which returns its loss."""
    model = settings(what)
    ours = MODELS.build(dict(model))
    ours.init_weights()
    peer = stock(what, model)
    peer.load_state_dict(ours.state_dict())
    data = batch(what)
    contestants = {}
    for name, task in (('ours', ours), ('peer', peer)):
        wrapper = OptimWrapper(torch.optim.AdamW(task.train().parameters(), lr=1e-5))

        def step(task: nn.Module = task, wrapper: OptimWrapper = wrapper) -> float:
            torch.manual_seed(0)  # both draw the same regions
            return float(task.train_step(copy.deepcopy(data), wrapper)['loss'].detach())

        contestants[name] = step
    return contestants


def run(quick: bool = False) -> list[Row]:
    """One row per task."""
    rows = []
    for what, peer in ((SEGMENTATION, 'mmseg'), (DETECTION, 'mmdet')):
        contestants = steps(what)
        losses = {name: step() for name, step in contestants.items()}
        if abs(losses['ours'] - losses['peer']) > GATE * abs(losses['peer']):
            raise AssertionError(f'{what}: the losses differ, so there is nothing to time: {losses}')
        seconds = interleave(contestants, rounds=3 if quick else 25, warmup=1 if quick else 3)
        seconds[peer] = seconds.pop('peer')
        note = f'{BATCH} pictures of {SIDE} pixels, fp32, {torch.get_num_threads()} threads'
        rows.append(compare(f'{what} training step', seconds, peer, goal=GOAL, note=note))
    return rows
