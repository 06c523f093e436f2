"""Draws what was predicted beside what was labelled, for every test picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from internvl_mm.data.decode import ImageDecoder
from internvl_mm.data.loading import IGNORE, LoadImage
from internvl_mm.evaluation.drawing import draw_classes, draw_objects, side_by_side
from internvl_mm.registry import HOOKS


@dataclass(frozen=True)
class Shown:
    """One test picture.

    Attributes:
        sheet: The picture, its labels and the prediction, side by side.
        summary: The prediction in a few words.
    """

    sheet: Image.Image
    summary: str


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

    def after_test_iter(
        self, runner: FlexibleRunner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Draw one batch."""
        loop = runner.test_loop
        for sample in outputs or ():
            if 'pred_sem_seg' in sample or 'pred_instances' in sample:
                shown = show_sample(sample, loop.dataloader.dataset, min_score=self.min_score)
                target = self.folder / loop.current / f'{sample.index:06d}_{Path(sample.path).stem}.png'
                target.parent.mkdir(parents=True, exist_ok=True)
                shown.sheet.save(target)


def show_sample(sample: Any, dataset: Any, *, min_score: float = 0.3) -> Shown:
    """Draw a sample with its predictions.

    Args:
        sample: With ``path`` and ``index`` of its file in the data set, and with ``pred_sem_seg`` or
            ``pred_instances``.
        dataset: Whose annotations and names of classes count.
        min_score: Least score of a predicted object.
    """
    picture = _decoder(dataset)(sample.path)
    if 'pred_sem_seg' in sample:
        return _label_maps(sample, picture)
    return _objects(sample, picture, dataset, min_score)


def _decoder(dataset: Any) -> ImageDecoder:
    """What the pipeline of a data set, or of the one it wraps, decodes with: turned by EXIF or not, TIFF or not."""
    while dataset is not None:
        for step in getattr(getattr(dataset, 'pipeline', None), 'transforms', ()):
            if isinstance(step, LoadImage):
                return step.decoder
        dataset = getattr(dataset, 'dataset', None)
    return LoadImage().decoder


def _label_maps(sample: Any, picture: Image.Image) -> Shown:
    maps = dict(prediction=sample.pred_sem_seg.data[0].cpu())
    summary = f'{len(maps["prediction"].unique())} classes'
    if 'gt_sem_seg' in sample:
        # Labels first: the order on the sheet.
        maps = dict(labels=sample.gt_sem_seg.data[0].cpu(), **maps)
        # Pixel accuracy of this picture alone, to sort by; the benchmark's number is a mean over classes.
        right = (maps['labels'] == maps['prediction'])[maps['labels'] != IGNORE]
        summary = f'{right.float().mean().item():.0%} of pixels right' if len(right) else 'no labelled pixel'
    drawn = {title: draw_classes(picture, labels, ignore=IGNORE) for title, labels in maps.items()}
    return Shown(side_by_side([picture, *drawn.values()], ['picture', *drawn]), summary)


def _objects(sample: Any, picture: Image.Image, dataset: Any, min_score: float) -> Shown:
    names = (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()
    found = sample.pred_instances.cpu()
    # Detectors give up to a hundred objects per picture, most of them with scores near 0.
    found = found[found.scores >= min_score]
    summary, drawn = f'{len(found)} objects found', {}
    labelled = _labelled(dataset, sample.index, picture)
    if labelled is not None:
        boxes, labels, masks = labelled
        drawn['labels'] = draw_objects(
            picture, boxes, labels, [_named(label, names) for label in labels], masks
        )
        summary += f', {len(labels)} labelled'
    labels = found.labels.tolist()
    captions = [f'{_named(label, names)} {score:.2f}' for label, score in zip(labels, found.scores.tolist())]
    drawn['prediction'] = draw_objects(picture, found.bboxes, labels, captions, found.get('masks'))
    return Shown(side_by_side([picture, *drawn.values()], ['picture', *drawn]), summary)


def _named(label: int, names: Sequence[str]) -> str:
    return names[label] if label < len(names) else str(label)


def _labelled(
    dataset: Any, index: int, picture: Image.Image
) -> tuple[Tensor, list[int], Tensor | None] | None:
    """Boxes ``[N, 4]``, classes and masks of the annotations of a sample; ``None`` when its data set keeps none."""
    # Our wrapper keeps mmdet's data set in it; get_data_info is how mmengine reads one entry before the pipeline.
    annotated = getattr(getattr(dataset, 'dataset', None), 'get_data_info', None)
    if annotated is None:
        return None
    objects = annotated(index).get('instances') or []
    # [N, 4] as x1, y1, x2, y2 in pixels of the file; reshaped, since a picture may have no object.
    boxes = torch.tensor([entry['bbox'] for entry in objects], dtype=torch.float32).reshape(-1, 4)
    masks = None
    # Data sets for boxes alone have no masks, or have them for some objects.
    if objects and all(entry.get('mask') for entry in objects):
        masks = torch.stack([_decoded(entry['mask'], picture) for entry in objects])
    return boxes, [entry['bbox_label'] for entry in objects], masks


def _decoded(mask: Any, picture: Image.Image) -> Tensor:
    """Pixels of an object given as polygons, or as run lengths."""
    # COCO keeps single objects as polygons and crowds as run lengths, whose counts are text once compressed.
    runs = mask
    if isinstance(mask, list) or isinstance(mask['counts'], list):
        runs = coco_mask.frPyObjects(mask, picture.height, picture.width)
    # An object cut apart by what stands before it has several polygons.
    runs = coco_mask.merge(runs) if isinstance(runs, list) else runs
    return torch.from_numpy(np.asarray(coco_mask.decode(runs), dtype=bool))
