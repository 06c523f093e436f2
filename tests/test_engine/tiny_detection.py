"""A detection run small enough for tests: rectangles of three colours, a two-block ViT, a one-stage head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.optim import OptimWrapper
from PIL import Image
from torch.optim import AdamW

from internvl_mm.data.collate import collate_lists
from internvl_mm.data.datasets.coco import CocoDetection
from internvl_mm.data.loading import LoadImage
from internvl_mm.data.samplers import EpochSampler, EvalSampler
from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.evaluation.metrics.coco import CocoAP
from internvl_mm.models.tasks.detect import Detector
from tests.test_models.tiny_detectors import SIDE, tiny_detector

COLOURS = dict(red=(230, 40, 40), green=(40, 230, 40), blue=(40, 40, 230))


def write_rectangles(folder: Path, *, count: int = 4) -> Path:
    """Pictures with two rectangles each and their annotations; returns the annotation file."""
    draw = np.random.default_rng(0)
    images, annotations = [], []
    for index in range(count):
        pixels = draw.integers(90, 110, (SIDE, SIDE, 3)).astype(np.uint8)
        for _ in range(2):
            label = int(draw.integers(3))
            x, y = draw.integers(0, SIDE - 28, 2).tolist()
            width, height = draw.integers(16, 28, 2).tolist()
            pixels[y : y + height, x : x + width] = list(COLOURS.values())[label]
            box = [x, y, width, height]
            outline = [x, y, x + width, y, x + width, y + height, x, y + height]
            annotation = dict(image_id=index, category_id=label + 1, bbox=box, area=width * height, iscrowd=0)
            annotations.append(dict(annotation, id=len(annotations) + 1, segmentation=[outline]))
        Image.fromarray(pixels).save(folder / f'{index}.png')
        images.append(dict(id=index, file_name=f'{index}.png', width=SIDE, height=SIDE))
    categories = [dict(id=label + 1, name=name) for label, name in enumerate(COLOURS)]
    file = folder / 'instances.json'
    file.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return file


def loader(file: Path, *, train: bool, batch_size: int, masks: bool) -> dict[str, Any]:
    """Config of a data loader over the rectangles."""
    from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, RandomFlip, Resize

    labels = [dict(type=LoadAnnotations, with_mask=masks), dict(type=RandomFlip, prob=0.5)]
    # Without annotations in the pipeline there is no flip either.
    keys = ('img_id', 'ori_shape', 'img_shape', 'scale_factor')
    pack = dict(type=PackDetInputs) if train else dict(type=PackDetInputs, meta_keys=keys)
    dataset = dict(
        type=CocoDetection,
        name='rectangles',
        ann_file=str(file),
        images=str(file.parent),
        pipeline=[
            dict(type=LoadImage),
            *(labels if train else []),
            dict(type=Resize, scale=(SIDE, SIDE)),
            pack,
        ],
    )
    return dict(
        dataset=dataset,
        sampler=dict(type=EpochSampler if train else EvalSampler),
        batch_size=batch_size,
        num_workers=0,
        collate_fn=dict(type=collate_lists),
    )


def detection_config(work_dir: Path, file: Path, *, kind: str = 'atss', **changes: Any) -> dict[str, Any]:
    """A whole config: 2 iterations of 2 pictures per epoch, 2 epochs."""
    masks = 'mask' in kind
    config = dict(
        model=dict(tiny_detector(kind), type=Detector),
        work_dir=str(work_dir),
        train_dataloader=loader(file, train=True, batch_size=2, masks=masks),
        optim_wrapper=dict(
            type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3), clip_grad=dict(max_norm=1.0)
        ),
        train_cfg=dict(type=EpochTrainLoop, max_epochs=2),
        benchmarks=dict(
            rectangles=dict(
                dataloader=loader(file, train=False, batch_size=3, masks=masks),
                metrics=[
                    dict(type=CocoAP, ann_file=str(file), kinds=('bbox', 'segm') if masks else ('bbox',))
                ],
            )
        ),
        val_benchmarks=[],
        default_hooks=dict(logger=None),
        randomness=dict(seed=0),
        log_level='ERROR',
    )
    return dict(config, **changes)
