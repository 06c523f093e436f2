"""Training steps of UperNet and Mask R-CNN through our tasks against the same parts run by stock mmseg and mmdet.

Two peers, both run by stock mmseg or mmdet with mmengine's optimiser wrapper, a whole step each. "same parts": the same
backbone, neck, heads, weights and batch, so that what differs is our task alone; the gate: equal losses before anything
is timed. "its own ViT": mmseg's VisionTransformer of the same sizes in place of InternViT, the rest the same; the gate:
equal FLOPs of the backbones. Heads are those of the quickstart: the smaller the step, the more any overhead shows.
Seconds are the processor's.
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
from mmseg.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Row, compare, interleave, processor_clock
from internvl_mm.engine.config import load_config
from internvl_mm.engine.config.checking import resolve
from internvl_mm.models.necks import SimpleFeaturePyramid
from internvl_mm.registry import MODELS
from internvl_mm.structures import VisionFeatures

BATCH, SIDE, CLASSES, OBJECTS = 4, 112, 10, 3
GATE = 1e-6  # of the loss
FLOPS_GATE = 0.01  # of the backbone's
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


class StockViT(nn.Module):
    """mmseg's VisionTransformer where a neck of ours expects a backbone of ours; one patch grid, square pictures.

    Args:
        sizes: Arguments of :class:`InternViT` that give its sizes.
    """

    def __init__(self, sizes: dict[str, Any]):
        super().__init__()
        self.vit = VisionTransformer(
            img_size=sizes['image_size'],
            patch_size=14,
            embed_dims=sizes['hidden_size'],
            num_layers=sizes['num_hidden_layers'],
            num_heads=sizes['num_attention_heads'],
            mlp_ratio=sizes['intermediate_size'] // sizes['hidden_size'],
            out_indices=sizes['out_indices'],
        )

    def forward(self, pixels: Tensor) -> VisionFeatures:
        """Maps ``[B, D, h, w]`` of the tapped blocks."""
        maps = tuple(self.vit(pixels))
        return VisionFeatures(
            tokens=maps[-1].flatten(2).transpose(1, 2),
            grid=maps[-1].shape[2:],
            maps=maps,
            strides=(14.0,) * len(maps),
            has_class_token=False,
        )


def flops(backbone: nn.Module) -> int:
    """Operations of a forward pass of one picture."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone(torch.zeros(1, 3, SIDE, SIDE))
    return counter.get_total_flops()


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


def step_of(task: nn.Module, data: dict[str, Any]) -> Callable[[], float]:
    """A training step, which returns its loss."""
    wrapper = OptimWrapper(torch.optim.AdamW(task.train().parameters(), lr=1e-5))

    def step() -> float:
        torch.manual_seed(0)  # all draw the same regions
        return float(task.train_step(copy.deepcopy(data), wrapper)['loss'].detach())

    return step


def contestants(what: str, peer: str) -> dict[str, Callable[[], float]]:
    """One training step of each side, after the gates."""
    model = settings(what)
    ours = MODELS.build(dict(model))
    ours.init_weights()
    same, other = stock(what, model), stock(what, model)
    same.load_state_dict(ours.state_dict())
    other.load_state_dict(ours.state_dict())
    other.backbone = StockViT(model['backbone'])
    other.backbone.vit.init_weights()
    # PyTorch's fused attention on CPUs is not counted; the one written out is.
    written_out = MODELS.build(dict(model['backbone'], attention='eager'))
    operations = [flops(written_out), flops(other.backbone)]
    if abs(operations[0] - operations[1]) > FLOPS_GATE * operations[0]:
        raise AssertionError(
            f'{what}: the backbones differ in FLOPs, so there is nothing to compare: {operations}'
        )
    data = batch(what)
    sides = {'ours': ours, f'{peer}, same parts': same, f'{peer}, its own ViT': other}
    steps = {name: step_of(task, data) for name, task in sides.items()}
    losses = [steps[name]() for name in list(steps)[:2]]
    if abs(losses[0] - losses[1]) > GATE * abs(losses[1]):
        raise AssertionError(f'{what}: the losses differ, so there is nothing to time: {losses}')
    return steps


def run(quick: bool = False) -> list[Row]:
    """Two rows per task."""
    rows = []
    for what, library in ((SEGMENTATION, 'mmseg'), (DETECTION, 'mmdet')):
        steps = contestants(what, library)
        seconds = interleave(
            steps, rounds=3 if quick else 40, warmup=1 if quick else 3, clock=processor_clock
        )
        note = f'{BATCH} pictures of {SIDE} pixels, fp32, {torch.get_num_threads()} threads'
        rows += [
            compare(f'{what} training step', seconds, peer, goal=GOAL, note=note)
            for peer in steps
            if peer != 'ours'
        ]
    return rows
