"""Top-k accuracy: plain, over a subset of the classes, and against sets of accepted classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from internvl_mm.evaluation.imagenet_subsets import ClassSubset, class_subset
from internvl_mm.registry import METRICS
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import ConfigError, DataError

from .base import SampleMetric, Scores


@METRICS.register_module()
class Accuracy(SampleMetric):
    """Share of images whose class is among the k highest scores, in percent, and the mean cross entropy.

    Gives ``top1``, ``top5``, …, ``loss`` and ``n``. What the numbers are not for: they say nothing of calibration or
    of single classes, an average over images favours frequent classes, and with ``class_subset`` they are
    not comparable with accuracies over all classes.

    Args:
        topk: Which k to report.
        class_subset: Score only the subset's columns of the logits, in ascending order of their index; labels then
            count within the subset (ImageNet-A and -R as published).
        prefix: See :class:`SampleMetric`.
    """

    def __init__(
        self,
        topk: tuple[int, ...] = (1, 5),
        *,
        class_subset: ClassSubset | None = None,
        prefix: str | None = None,
    ):
        super().__init__(prefix)
        if not topk:
            raise ConfigError('topk=(): name at least one k, such as topk=(1,)')
        for k in topk:
            check_counts(topk=k)
        self.topk = tuple(topk)
        self.class_subset = class_subset

    def score(self, samples: Sequence[dict[str, Any]]) -> list[Scores | None]:
        """See :class:`SampleMetric`."""
        logits = self._logits(samples)
        # Each sample holds [1], together [B].
        labels = torch.cat([sample['gt_label'] for sample in samples]).to(logits.device)
        for sample, label in zip(samples, labels.tolist(), strict=True):
            if not 0 <= label < logits.shape[-1]:
                raise DataError(
                    f"label {label} of image {sample['index']} of '{sample['dataset']}' is outside the "
                    f'{logits.shape[-1]} scored classes: correct the label or the class list of the data set'
                )
        # [B, max k]; at most one rank of a row is right.
        hits = self._ranked(logits) == labels[:, None]
        losses = F.cross_entropy(logits, labels, reduction='none')
        return [
            dict(**self._topk_hits(hit), loss=loss) for hit, loss in zip(hits, losses.tolist(), strict=True)
        ]

    def reported(self) -> tuple[str, ...] | None:
        """See :class:`SampleMetric`."""
        return (*(f'top{k}' for k in self.topk), 'loss', 'n')

    def _logits(self, samples: Sequence[dict[str, Any]]) -> Tensor:
        """Scores ``[B, C]`` of the classes that take part, checked against the class list of the data set."""
        # fp32: half precision would round the cross entropy to two or three digits.
        logits = torch.stack([sample['pred_logits'] for sample in samples]).float()
        if len(broken := logits.isnan().any(dim=-1).nonzero()):
            # Sorted first, NaN would even count as right where it stands at the label.
            sample = samples[int(broken[0])]
            raise DataError(
                f"the scores of image {sample['index']} of '{sample['dataset']}' are not numbers (NaN): the weights "
                "are broken, or the precision is too small for them; try precision='bf16' or 'fp32' of the strategy"
            )
        if self.class_subset is not None:
            logits = self._subset_columns(logits)
        classes = (self.dataset_meta or {}).get('classes')
        if classes is not None and len(classes) != logits.shape[-1]:
            raise DataError(
                f"'{samples[0]['dataset']}' has {len(classes)} classes but {logits.shape[-1]} are scored: evaluate a "
                'head of the same classes, or set class_subset of the metric to the one that belongs to the data'
            )
        if max(self.topk) > logits.shape[-1]:
            raise ConfigError(
                f'topk={self.topk} asks for more than the {logits.shape[-1]} scored classes: leave out larger k'
            )
        return logits

    def _subset_columns(self, logits: Tensor) -> Tensor:
        columns = class_subset(self.class_subset)
        if logits.shape[-1] != 1000:
            raise ConfigError(
                f"class_subset='{self.class_subset}' picks columns of 1000 ImageNet logits, but the head gives "
                f'{logits.shape[-1]}: evaluate an ImageNet-1K head or leave class_subset out'
            )
        # [B, 1000] to [B, 200] for ImageNet-A and ImageNet-R.
        return logits[:, list(columns)]

    def _ranked(self, logits: Tensor) -> Tensor:
        """Classes ``[B, max k]``, the highest score first."""
        return logits.topk(max(self.topk), dim=-1).indices

    def _topk_hits(self, hit: Tensor) -> Scores:
        """From which ranks ``[max k]`` are right to percent per k."""
        # In percent for each sample, so that the mean over samples is the number.
        return {f'top{k}': 100.0 * bool(hit[:k].any()) for k in self.topk}


@METRICS.register_module()
class ReaLAccuracy(Accuracy):
    """Share of images with one of the accepted classes among the k highest scores, in percent (ImageNet-ReaL).

    Images without any accepted class do not count; ``excluded`` says how many there were. What the number is not for:
    comparing with single-label accuracy, since images with several accepted classes are easier.

    Args:
        topk: Which k to report.
        prefix: See :class:`SampleMetric`.

    Source: Beyer et al. 2020, "Are we done with ImageNet?".
    """

    def __init__(self, topk: tuple[int, ...] = (1, 5), *, prefix: str | None = None):
        super().__init__(topk, prefix=prefix)

    def reported(self) -> tuple[str, ...] | None:
        """See :class:`SampleMetric`; sets of labels have no cross entropy."""
        return (*(f'top{k}' for k in self.topk), 'n', 'excluded')

    def score(self, samples: Sequence[dict[str, Any]]) -> list[Scores | None]:
        """See :class:`SampleMetric`."""
        if bare := [sample for sample in samples if 'gt_labels' not in sample]:
            raise ConfigError(
                f"images of '{bare[0]['dataset']}' carry no sets of accepted classes: ReaLAccuracy needs an "
                'ImageNetReaLDataset; for one class per image use Accuracy'
            )
        # Sets of accepted classes differ in size, so images go one by one: on the CPU, after one transfer.
        ranked = self._ranked(self._logits(samples)).cpu()
        accepted = [sample['gt_labels'].cpu() for sample in samples]
        return [
            self._topk_hits(torch.isin(row, labels)) if len(labels) else None
            for row, labels in zip(ranked, accepted, strict=True)
        ]

    def compute_metrics(self, results: list[Scores | None]) -> dict[str, float]:
        """See :class:`SampleMetric`; also counts the excluded images."""
        return dict(**super().compute_metrics(results), excluded=sum(scores is None for scores in results))
