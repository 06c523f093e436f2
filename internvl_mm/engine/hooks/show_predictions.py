"""Draws what was predicted beside what was labelled, for every test picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from internvl_mm.data.loading import LoadImage
from internvl_mm.evaluation.drawing import draw_classes, draw_objects, side_by_side
from internvl_mm.registry import HOOKS


@HOOKS.register_module()
class ShowPredictionsHook(Hook):
    """Writes ``<folder>/<benchmark>/<index>_<name>.png``: the picture, its labels and the prediction side by side.

    For segmentation and detection; samples of other tasks are left out. Pictures are drawn at their original size, and
    the objects of a data set are taken from its annotations, whatever its pipeline did to them.

    Args:
        folder: Where to write; made when needed.
        min_score: Least score of a predicted object.
    """

    def __init__(self, folder: str, *, min_score: float = 0.3):
        self.folder, self.min_score = Path(folder), min_score
        self._decode = LoadImage().decoder

    def after_test_iter(
        self, runner: FlexibleRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Draw one batch."""
        loop = runner.test_loop
        dataset = loop.dataloader.dataset
        names = (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()
        for sample in outputs or ():
            if 'pred_sem_seg' in sample:
                sheet = self._label_maps(sample)
            elif 'pred_instances' in sample:
                sheet = self._objects(sample, dataset, names)
            else:
                continue
            target = self.folder / loop.current / f'{sample.index:06d}_{Path(sample.path).stem}.png'
            target.parent.mkdir(parents=True, exist_ok=True)
            sheet.save(target)

    def _label_maps(self, sample: Any) -> Image.Image:
        picture = self._decode(sample.path)
        maps = dict(labels=sample.get('gt_sem_seg'), prediction=sample.pred_sem_seg)
        drawn = {
            title: draw_classes(picture, field.data[0].cpu())
            for title, field in maps.items()
            if field is not None
        }
        return side_by_side([picture, *drawn.values()], ['picture', *drawn])

    def _objects(self, sample: Any, dataset: Any, names: Sequence[str]) -> Image.Image:
        picture = self._decode(sample.path)
        labelled = _labelled(dataset, sample.index, picture)
        drawn = {}
        if labelled is not None:
            boxes, labels, masks = labelled
            drawn['labels'] = draw_objects(
                picture, boxes, labels, [_named(label, names) for label in labels], masks
            )
        found = sample.pred_instances.cpu()
        found = found[found.scores >= self.min_score]
        labels = found.labels.tolist()
        captions = [
            f'{_named(label, names)} {score:.2f}' for label, score in zip(labels, found.scores.tolist())
        ]
        drawn['prediction'] = draw_objects(picture, found.bboxes, labels, captions, found.get('masks'))
        return side_by_side([picture, *drawn.values()], ['picture', *drawn])


def _named(label: int, names: Sequence[str]) -> str:
    return names[label] if label < len(names) else str(label)


def _labelled(
    dataset: Any, index: int, picture: Image.Image
) -> tuple[Tensor, list[int], Tensor | None] | None:
    """Boxes ``[N, 4]``, classes and masks of the annotations of a sample; ``None`` when its data set keeps none."""
    annotated = getattr(getattr(dataset, 'dataset', None), 'get_data_info', None)
    if annotated is None:
        return None
    objects = annotated(index).get('instances') or []
    boxes = torch.tensor([entry['bbox'] for entry in objects], dtype=torch.float32).reshape(-1, 4)
    masks = None
    if objects and all(entry.get('mask') for entry in objects):
        masks = torch.stack([_decoded(entry['mask'], picture) for entry in objects])
    return boxes, [entry['bbox_label'] for entry in objects], masks


def _decoded(mask: Any, picture: Image.Image) -> Tensor:
    """Pixels of an object given as polygons, or as run lengths."""
    runs = mask
    if isinstance(mask, list) or isinstance(mask['counts'], list):
        runs = coco_mask.frPyObjects(mask, picture.height, picture.width)
    runs = coco_mask.merge(runs) if isinstance(runs, list) else runs
    return torch.from_numpy(np.asarray(coco_mask.decode(runs), dtype=bool))
