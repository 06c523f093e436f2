"""Average precision of boxes and masks as COCO and LVIS define it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from internvl_mm.data.datasets.coco import is_polygon, read_annotations
from internvl_mm.evaluation.figures import Bars, Lines
from internvl_mm.registry import METRICS
from internvl_mm.utils.errors import ConfigError, DataError
from internvl_mm.utils.paths import ExistingFile

from .base import SampleMetric

Backend = Literal['auto', 'pycocotools', 'faster']
Kind = Literal['bbox', 'segm']

# Names of COCO's twelve numbers in its own order.
STATS = ('AP', 'AP50', 'AP75', 'AP_small', 'AP_medium', 'AP_large')
RECALLS = ('AR1', 'AR10', 'AR100', 'AR_small', 'AR_medium', 'AR_large')
# IoU thresholds whose precision-recall curves are kept.
CURVES = (0.5, 0.75)


@METRICS.register_module()
class CocoAP(SampleMetric):
    """Average precision in percent: over ten overlaps (``AP``), at single ones, by size, and of each class.

    Gives ``bbox_AP``, ``bbox_AP50``, ..., ``segm_AP``, ... and ``n``, the pictures that were evaluated; sizes no object
    has are left out. Values by class and precision-recall curves go to the report. What the numbers are not for: they
    rank detections by score and say nothing of how well scores are calibrated, nor of a single threshold one would
    deploy.

    Args:
        ann_file: The annotations the data set was read from.
        kinds: ``'bbox'``, ``'segm'`` or both.
        backend: ``'auto'`` takes faster-coco-eval when it is installed; both give the same numbers.
        prefix: See :class:`SampleMetric`.

    Source: Lin et al. 2014, "Microsoft COCO"; pycocotools.
    """

    # Per picture. COCO's summary reads three limits: the last for precision, all of them for recall.
    max_detections: tuple[int, int, int] = (1, 10, 100)

    def __init__(
        self,
        ann_file: ExistingFile,
        *,
        kinds: tuple[Kind, ...] = ('bbox',),
        backend: Backend = 'auto',
        prefix: str | None = None,
    ):
        super().__init__(prefix)
        if not kinds or not set(kinds) <= {'bbox', 'segm'}:
            raise ConfigError(f"kinds={kinds}: choose from 'bbox' and 'segm'")
        installed = importlib.util.find_spec('faster_coco_eval') is not None
        if backend == 'faster' and not installed:
            raise ConfigError(
                "backend='faster' needs the package faster-coco-eval: pip install faster-coco-eval"
            )
        self.ann_file, self.kinds = str(ann_file), tuple(kinds)
        self.fast = backend == 'faster' or (backend == 'auto' and installed)

    def reported(self) -> tuple[str, ...] | None:
        """See :class:`SampleMetric`; numbers of sizes that no object has are left out of the results."""
        return (*(f'{kind}_{name}' for kind in self.kinds for name in (*STATS, *RECALLS)), 'n')

    def score(self, samples: Sequence[dict[str, Any]]) -> list[Any]:
        """The detections of each picture as entries of COCO's result files."""
        return [(int(sample['img_id']), self._detections(sample)) for sample in samples]

    def _detections(self, sample: dict[str, Any]) -> list[dict[str, Any]]:
        found = sample['pred_instances']
        boxes = found['bboxes'].float().cpu().numpy()
        # [N, 4]: COCO's files give a corner and the size, not two corners.
        boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(float)
        scores, labels = found['scores'].float().cpu().tolist(), found['labels'].cpu().tolist()
        masks = _encoded(found) if 'segm' in self.kinds else [None] * len(labels)
        return [
            dict(bbox=box, score=score, label=label, segmentation=mask)
            for box, score, label, mask in zip(boxes.tolist(), scores, labels, masks, strict=True)
        ]

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Evaluate all detections against the annotation file."""
        self.figures = []
        with contextlib.redirect_stdout(io.StringIO()):  # they print tables
            truth = self._truth()
            ids = self._category_ids(truth)
            _check_labels(results, ids, self.ann_file)
            metrics: dict[str, float] = {}
            images = [image for image, _ in results]
            for kind in self.kinds:
                entries = [
                    self._entry(detection, kind, image=image, category=ids[detection['label']])
                    for image, detections in results
                    for detection in detections
                ]
                metrics |= self._evaluate(truth, entries, kind, images=images, categories=list(ids.values()))
        return dict(metrics, n=len(results))

    def _truth(self) -> COCO:
        content = read_annotations(self.ann_file)
        truth = self._library()[0]()
        content['annotations'] = [
            self._completed(annotation, number)
            for number, annotation in enumerate(content['annotations'], start=1)
        ]
        truth.dataset = content
        truth.createIndex()
        return truth

    def _completed(self, annotation: dict[str, Any], number: int) -> dict[str, Any]:
        """An annotation with what pycocotools reads, which training does without and files may lack."""
        # Numbered anew: they keep one annotation of those with equal ids, and take id 0 for an object nobody found.
        entry = dict(annotation, id=number)
        entry.setdefault('iscrowd', 0)
        try:
            _, _, width, height = entry['bbox']
            entry.setdefault('area', width * height)
            if 'segm' in self.kinds:
                entry['segmentation'] = _usable_mask(entry['segmentation'])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f'{self.ann_file}: annotation {annotation.get("id", number)} of image {annotation.get("image_id")} has '
                f'no {"box or mask" if "segm" in self.kinds else "box"} to compare with; correct it'
                + (", or evaluate kinds=('bbox',)" if 'segm' in self.kinds else '')
            ) from error
        return entry

    def _library(self) -> tuple[type, type]:
        if not self.fast:
            return COCO, COCOeval
        from faster_coco_eval import COCO as FastCOCO
        from faster_coco_eval import COCOeval_faster

        return FastCOCO, COCOeval_faster

    def _category_ids(self, truth: COCO) -> dict[int, int]:
        """Label to category id, by name."""
        # Category ids have gaps (COCO's 80 classes go up to 90), so labels are no ids.
        by_name = {category['name']: category['id'] for category in truth.dataset['categories']}
        classes = (self.dataset_meta or {}).get('classes') or [
            by_id[0] for by_id in sorted(by_name.items(), key=lambda item: item[1])
        ]
        missing = [name for name in classes if name not in by_name]
        if missing:
            raise DataError(
                f'{self.ann_file} has no category {missing[0]!r} ({len(missing)} classes of the data set are missing): '
                'give CocoAP the ann_file of the data set it evaluates'
            )
        return {label: by_name[name] for label, name in enumerate(classes)}

    def _entry(self, detection: dict, kind: str, *, image: int, category: int) -> dict[str, Any]:
        entry = dict(image_id=image, category_id=category, score=detection['score'], bbox=detection['bbox'])
        if kind == 'segm':
            # Without the box: areas are then those of the masks, by which objects count as small or large.
            del entry['bbox']
            entry['segmentation'] = detection['segmentation']
        return entry

    def _evaluate(
        self, truth: COCO, entries: list[dict], kind: str, *, images: list[int], categories: list[int]
    ) -> dict[str, float]:
        names = [f'{kind}_{name}' for name in (*STATS, *RECALLS)]
        judge = self._judge(truth, self._found(truth, entries), kind)
        # Only pictures that were read: objects of all others would count as missed.
        judge.params.imgIds, judge.params.catIds = sorted(images), categories
        judge.params.maxDets = list(self.max_detections)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        self._draw(judge, kind, truth)
        # -1 where no object is of a size.
        return {name: 100.0 * float(value) for name, value in zip(names, judge.stats) if value >= 0}

    def _found(self, truth: COCO, entries: list[dict]) -> COCO:
        if entries:
            return truth.loadRes(entries)
        # loadRes looks at the first entry and fails without one.
        nothing = self._library()[0]()
        nothing.dataset = dict(truth.dataset, annotations=[])
        nothing.createIndex()
        return nothing

    def _judge(self, truth: COCO, found: COCO, kind: str) -> COCOeval:
        return self._library()[1](truth, found, kind)

    def _draw(self, judge: COCOeval, kind: str, truth: COCO) -> None:
        """Keep each class's AP, and precision over recall averaged over classes."""
        # [overlap, recall, class, size, detections]; -1 where a class has no objects.
        precision = np.asarray(judge.eval['precision'])[:, :, :, 0, -1]
        precision = np.where(precision < 0, np.nan, precision)
        names = [truth.cats[category]['name'] for category in judge.params.catIds]
        # From here [10 overlaps, 101 recalls, K classes], for objects of all sizes.
        present = ~np.isnan(precision).all(axis=(0, 1))
        per_class = {
            name: 100 * float(np.nanmean(precision[:, :, column]))
            for column, name in enumerate(names)
            if present[column]
        }
        self.figures.append(Bars(f'{kind} AP by class', '%', per_class))
        recalls = np.asarray(judge.params.recThrs)
        series = {}
        for overlap in CURVES:
            # The nearest: the thresholds come from linspace, where 0.75 need not be exact.
            row = int(np.abs(np.asarray(judge.params.iouThrs) - overlap).argmin())
            # [101], one precision for each recall.
            mean = np.nanmean(precision[row][:, present], axis=1)
            series[f'IoU {overlap:g}'] = [(100 * float(x), 100 * float(y)) for x, y in zip(recalls, mean)]
        self.figures.append(Lines(f'{kind} precision over recall', 'precision, %', 'recall, %', series))


def _usable_mask(segmentation: Any) -> Any:
    """Run lengths as they are; of polygons those with three corners or more, as training reads them.

    Raises:
        ValueError: There is none.
    """
    if not isinstance(segmentation, list):
        return segmentation
    polygons = [polygon for polygon in segmentation if is_polygon(polygon)]
    if not polygons:
        raise ValueError('no polygon')
    return polygons


def _encoded(found: Any) -> list[dict[str, Any]]:
    """Masks ``[N, H, W]`` as run lengths."""
    if 'masks' not in found:
        raise ConfigError(
            "kinds has 'segm' but the detector predicts no masks: leave it out, or add a mask head"
        )
    masks = np.asarray(found['masks'].cpu(), np.uint8)
    # Runs are counted down the columns; pycocotools refuses arrays that lie in memory otherwise.
    return [rle.encode(np.asfortranarray(mask)) for mask in masks]


@METRICS.register_module()
class LvisAP(CocoAP):
    """Average precision on LVIS in percent, as :class:`CocoAP` with up to 300 detections per picture.

    Detections of a class count only in pictures that were searched for it, and classes are grouped by how many training
    pictures show them: ``AP_rare`` (up to 10), ``AP_common`` (up to 100) and ``AP_frequent``.

    Args:
        ann_file: See :class:`CocoAP`.
        kinds: See :class:`CocoAP`.
        prefix: See :class:`SampleMetric`.

    Source: Gupta et al. 2019, "LVIS"; faster-coco-eval, which has to be installed.
    """

    # pycocotools' summary looks for the limit 100 by its value, and would give -1 as AP here.
    max_detections = (300, 300, 300)

    def __init__(
        self, ann_file: ExistingFile, *, kinds: tuple[Kind, ...] = ('bbox', 'segm'), prefix: str | None = None
    ):
        super().__init__(ann_file, kinds=kinds, backend='faster', prefix=prefix)

    def reported(self) -> tuple[str, ...] | None:
        """See :class:`SampleMetric`; also the three groups of classes."""
        groups = (f'{kind}_AP_{group}' for kind in self.kinds for group in ('rare', 'common', 'frequent'))
        return (*(super().reported() or ()), *groups)

    def _judge(self, truth: COCO, found: COCO, kind: str) -> COCOeval:
        return self._library()[1](truth, found, kind, lvis_style=True)

    def _evaluate(
        self, truth: COCO, entries: list[dict], kind: str, *, images: list[int], categories: list[int]
    ) -> dict[str, float]:
        metrics = super()._evaluate(truth, entries, kind, images=images, categories=categories)
        # The latest bars are those of this kind, drawn a moment ago.
        by_class = next(bars.values for bars in reversed(self.figures) if isinstance(bars, Bars))
        frequency = {category['name']: category['frequency'] for category in truth.dataset['categories']}
        for letter, name in dict(r='rare', c='common', f='frequent').items():
            values = [value for label, value in by_class.items() if frequency[label] == letter]
            if values:
                metrics[f'{kind}_AP_{name}'] = sum(values) / len(values)
        return metrics


def _check_labels(results: list[Any], ids: dict[int, int], ann_file: str) -> None:
    """Refuse detections of classes that the data has not: its head was built for other data.

    Raises:
        DataError: There is one.
    """
    found = {detection['label'] for _, detections in results for detection in detections}
    if unknown := sorted(found - ids.keys()):
        raise DataError(
            f'the model detects class {unknown[0]}, and {ann_file} with its data set has {len(ids)} classes, from 0: '
            'give the heads the num_classes of the data, or take a checkpoint that was trained on it'
        )
