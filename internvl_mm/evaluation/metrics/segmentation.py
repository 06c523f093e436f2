"""Intersection over union of label maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from internvl_mm.evaluation.figures import Bars
from internvl_mm.evaluation.intervals import bootstrap_interval
from internvl_mm.registry import METRICS
from internvl_mm.utils.errors import DataError

from .base import SampleMetric, Scores


@METRICS.register_module()
class MeanIoU(SampleMetric):
    """mIoU, mean accuracy of the classes and accuracy of the pixels, in percent, at the resolution of the label maps.

    A class's IoU is its intersection over its union, both summed over the whole data set; classes that neither occur
    nor are predicted do not count. Gives ``mIoU``, ``mAcc``, ``aAcc``, ``n``, and with ``mIoU_low`` and ``mIoU_high``
    the 95 % interval of mIoU under resampling of the images; bars of every class's IoU go to the report. What mIoU is
    not for: it weighs rare classes like frequent ones, small objects hardly count beside large ones of their class,
    and it is not comparable between class lists.

    Args:
        ignore_index: Label of pixels that do not count.
        prefix: See :class:`SampleMetric`.

    Source: mmsegmentation ``IoUMetric``, which gives the same numbers rounded.
    """

    def __init__(self, ignore_index: int = 255, *, prefix: str | None = None):
        super().__init__(prefix)
        self.ignore_index = ignore_index

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the data set that is evaluated."""
        return tuple((self.dataset_meta or {}).get('classes') or ())

    def score(self, samples: Sequence[dict[str, Any]]) -> list[Scores | None]:
        """Areas of each sample in pixels, ``[3, C]``: intersection, predicted, labelled; see :class:`SampleMetric`."""
        return [dict(areas=self._areas(sample)) for sample in samples]

    def _areas(self, sample: dict[str, Any]) -> Any:
        if 'gt_sem_seg' not in sample:
            raise DataError(f'{_called(sample)} has no label map: let the pipeline load it after resizing')
        # [1, H, W], as mmengine's PixelData keeps maps, to [H, W].
        label = sample['gt_sem_seg']['data'].squeeze(0)
        predicted = sample['pred_sem_seg']['data'].squeeze(0).to(label.device)
        if label.shape != predicted.shape:
            raise DataError(
                f'{_called(sample)}: the label map has {tuple(label.shape)} pixels, the prediction '
                f'{tuple(predicted.shape)}: load label maps after resizing, so that they keep their own resolution'
            )
        valid = label != self.ignore_index
        # [P]: ignored pixels leave the prediction, too, or they would add to unions. P is 0 where all are ignored.
        label, predicted = label[valid].long(), predicted[valid].long()
        # Without class names, up to the highest class of this picture; compute_metrics pads to the widest.
        count = len(self.classes) or 1 + max(
            [0, *(int(values.max()) for values in (label, predicted) if len(values))]
        )
        for what, values in (('label map', label), ('prediction', predicted)):
            outside = values[(values < 0) | (values >= count)]
            if len(outside):
                raise DataError(
                    f'{_called(sample)}: the {what} has class {int(outside[0])}, but the data set {count} classes (0 '
                    f'to {count - 1}): evaluate a head of the classes of the data'
                )
        # Where both agree, the histogram of either is the intersection, as in mmsegmentation.
        areas = [_histogram(each, count) for each in (label[label == predicted], predicted, label)]
        return torch.stack(areas).cpu().numpy()

    def reported(self) -> tuple[str, ...] | None:
        """See :class:`SampleMetric`."""
        return ('mIoU', 'mAcc', 'aAcc', 'mIoU_low', 'mIoU_high', 'n')

    def compute_metrics(self, results: list[Scores | None]) -> dict[str, float]:
        """Means over classes of sums over samples."""
        scored: list[Any] = [scores['areas'] for scores in results if scores is not None]
        # A set whose pixels are all ignored has no union to divide by: nothing was measured.
        if not any(areas.any() for areas in scored):
            return dict(n=0)
        classes = max(areas.shape[1] for areas in scored)
        # [n, 3, C] in float64, which holds whole numbers of pixels exactly up to 2^53.
        areas = np.zeros((len(scored), 3, classes))
        for number, each in enumerate(scored):
            areas[number, :, : each.shape[1]] = each
        total = areas.sum(axis=0)  # [3, C]
        iou, accuracy = _iou(total), _ratio(total[0], total[2])  # [C] each
        names = self.classes or tuple(map(str, range(classes)))
        present = {name: float(value) for name, value in zip(names, iou, strict=True) if np.isfinite(value)}
        self.figures = [Bars('IoU by class', '%', present)]
        # From sums [r, 3, C]: a class that a resampled set lacks is NaN there and leaves that set's mean. A set of
        # nothing but wholly ignored pictures would have no class, so these, which measure nothing, are not drawn.
        measured = areas[areas.any(axis=(1, 2))]
        low, high = bootstrap_interval(measured, lambda sums: np.nanmean(_iou(sums), axis=-1))
        return dict(
            mIoU=float(np.nanmean(iou)),
            mAcc=float(np.nanmean(accuracy)),
            aAcc=float(_ratio(total[0].sum(), total[2].sum())),
            mIoU_low=low,
            mIoU_high=high,
            n=len(scored),
        )


def _called(sample: dict[str, Any]) -> str:
    return f"image {sample['index']} of '{sample['dataset']}'"


def _histogram(labels: Tensor, count: int) -> Tensor:
    return torch.bincount(labels, minlength=count)


def _iou(areas: np.ndarray) -> np.ndarray:
    """Percent per class from areas ``[..., 3, C]``; NaN where the union is empty."""
    intersection, predicted, labelled = (areas[..., row, :] for row in range(3))
    return _ratio(intersection, predicted + labelled - intersection)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    # 0 / 0 is meant: NaN marks an absent class, and the means leave it out.
    with np.errstate(invalid='ignore', divide='ignore'):
        return 100.0 * part / whole
