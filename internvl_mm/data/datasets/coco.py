"""Boxes and masks in COCO's JSON form: COCO itself, LVIS, DigitScenes and whatever was annotated that way."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset as MMBaseDataset
from mmengine.dataset import ClassBalancedDataset
from mmengine.logging import MMLogger

from internvl_mm.data.samplers import SampleIndex
from internvl_mm.registry import DATASETS
from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.paths import ExistingFile, ExistingFolder

from .guarded import Item, OnError
from .openmmlab import OpenMMLabDataset


@DATASETS.register_module()
class CocoDetection(OpenMMLabDataset):
    """Pictures with boxes and masks; every annotation is checked when the file is read.

    Boxes that are inverted, empty, smaller than a pixel or outside their picture, and objects without a mask where the
    pipeline loads masks, stop the run under ``on_error='fail'``. Under the other policies these objects (not the whole
    picture) are left out, and each picture concerned has a line in the run's ledger. Crowds become regions to ignore.

    Args:
        ann_file: JSON file with ``images``, ``annotations`` and ``categories``.
        images: Folder of the pictures.
        pipeline: mmdetection's transforms, beginning with :class:`~internvl_mm.data.loading.LoadImage`.
        classes: Names the categories of the file must have, in order of their ids; all of the file by default.
        keep_empty: Whether pictures without any object take part, as they must in evaluation.
        repeat_below: Pictures of classes that are in a smaller share of all pictures repeat within an epoch, see
            ``ClassBalancedDataset`` of mmengine; 0.001 for LVIS.
        name: Name in results, ledgers and reports.
        on_error: What a bad sample does, see :class:`GuardedDataset`.

    Raises:
        DataError: The file is missing or not in COCO's form, its classes are not ``classes``, or (under ``'fail'``)
            an annotation is bad.
    """

    def __init__(
        self,
        ann_file: ExistingFile,
        images: ExistingFolder,
        *,
        pipeline: Sequence[dict | Callable],
        classes: Sequence[str] | None = None,
        keep_empty: bool = True,
        repeat_below: float | None = None,
        name: str | None = None,
        on_error: OnError = 'fail',
    ):
        instances = CocoInstances(
            ann_file=str(ann_file),
            data_prefix=dict(img=str(images)),
            pipeline=list(pipeline),
            metainfo=dict(classes=tuple(classes)) if classes else None,
            filter_cfg=dict(keep_empty=keep_empty),
        )
        if on_error == 'fail' and instances.faults:
            shown = '\n  '.join(instances.faults[:3])
            raise DataError(
                f'{ann_file}: {len(instances.faults)} annotations are bad, the first ones:\n  {shown}\n'
                "Correct them, or leave them out and keep account of it with on_error='replace'"
            )
        balanced = instances
        if repeat_below is not None:
            balanced = ClassBalancedDataset(instances, oversample_thr=repeat_below)
            # With a pipeline of its own it is read like any other; otherwise it would hide pictures that fail.
            balanced.pipeline = instances.pipeline
        super().__init__(balanced, name=name, on_error=on_error)

    def load(self, index: SampleIndex) -> Item:
        """See :class:`GuardedDataset`."""
        item = super().load(index)
        faults = self.dataset.get_data_info(int(index))['faults']
        if faults:
            reason = f'{len(faults)} objects left out: {"; ".join(faults)}'
            # One line for the picture, whose other objects are used.
            item['bad_samples'] = [BadSample(self.name, int(index), self.path(index), reason)]
        return item


class CocoInstances(MMBaseDataset):
    """The annotations as mmdetection's transforms expect them; ``faults`` tells what is wrong with which.

    Labels are positions in the list of categories by id. What is faulty is left out of ``instances``.
    """

    faults: list[str]

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read and check the annotation file."""
        content = read_annotations(self.ann_file)
        try:
            return self._checked(content)
        except (KeyError, TypeError) as error:
            raise DataError(
                f'{self.ann_file}: an entry is not in the form of COCO ({type(error).__name__} {error}): images need '
                'id, file_name, width and height, annotations image_id, category_id and bbox, categories id and name'
            ) from error

    def _checked(self, content: dict[str, Any]) -> list[dict[str, Any]]:
        # By id, as COCOeval sorts them, whatever their order in the file.
        categories = sorted(content['categories'], key=lambda category: category['id'])
        names = tuple(category['name'] for category in categories)
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            # Metrics find the categories of a file by the names of the classes.
            raise DataError(
                f'{self.ann_file}: two categories are called {twice[0]!r}: give them different names'
            )
        self._metainfo['classes'] = _checked_classes(self._metainfo.get('classes'), names, self.ann_file)
        # Ids have gaps: the 80 classes of COCO count to 90.
        # category id to class number
        labels = {category['id']: label for label, category in enumerate(categories)}
        # Asked of mmdetection's LoadAnnotations: detectors of boxes alone need no segmentation.
        needs_masks = any(getattr(step, 'with_mask', False) for step in self.pipeline.transforms)
        by_image = defaultdict(list)
        for annotation in content['annotations']:
            if annotation['category_id'] not in labels:
                raise DataError(
                    f'{self.ann_file}: annotation {annotation.get("id")} is of category {annotation["category_id"]!r}, '
                    f'but the file has categories {sorted(labels)}: add the category, or correct the annotation'
                )
            # Grouped once: a search for the annotations of each picture would be quadratic.
            by_image[annotation['image_id']].append(annotation)
        known = {image['id'] for image in content['images']}
        if odd := [number for number in known if not isinstance(number, int)]:
            raise DataError(
                f'{self.ann_file}: image id {odd[0]!r} is no whole number, by which metrics tell pictures apart: '
                'number the images, and image_id of the annotations alike'
            )
        if len(known) < len(content['images']):
            raise DataError(
                f'{self.ann_file}: two images have one id, so that annotations belong to both: number them differently'
            )
        if strangers := by_image.keys() - known:
            raise DataError(
                f'{self.ann_file}: annotations belong to images {sorted(strangers)[:5]} that the file does not list'
            )
        self.faults = []
        return [
            self._parsed(image, by_image[image['id']], labels=labels, needs_masks=needs_masks)
            for image in content['images']
        ]

    def _parsed(
        self, image: dict, annotations: list[dict], *, labels: dict[int, int], needs_masks: bool
    ) -> dict[str, Any]:
        # LVIS has no file names but addresses that end in <folder>/<name>.
        name = image.get('file_name') or '/'.join(image['coco_url'].split('/')[-2:])
        faults, instances = [], []
        for annotation in annotations:
            # As mmdetection does: passed over altogether, not even a region to ignore.
            if annotation.get('ignore', False):
                continue
            fault = _fault(annotation, image['width'], image['height'], needs_mask=needs_masks)
            if fault:
                faults.append(f'annotation {annotation.get("id")} {fault}')
                continue
            x, y, width, height = annotation['bbox']
            # Corners in pixels, which mmdetection takes, and not COCO's width and height.
            instance = dict(
                bbox=[x, y, x + width, y + height],
                bbox_label=labels[annotation['category_id']],
                # Crowds are neither objects nor background.
                ignore_flag=int(bool(annotation.get('iscrowd', 0))),
            )
            if annotation.get('segmentation'):
                # Polygons or run lengths as they are: mmdetection's transforms read both.
                instance['mask'] = annotation['segmentation']
            instances.append(instance)
        # Of the whole file, so that its error names the picture, too.
        self.faults += [f'{name}: {fault}' for fault in faults]
        return dict(
            img_path=str(Path(self.data_prefix['img'], name)),
            img_id=image['id'],
            height=image['height'],
            width=image['width'],
            instances=instances,
            faults=faults,
        )

    def filter_data(self) -> list[dict[str, Any]]:
        """Leave out pictures without objects, if asked to, and say how many."""
        if self.filter_cfg['keep_empty']:
            kept = self.data_list
        else:
            kept = [entry for entry in self.data_list if entry['instances']]
        if not kept:
            raise DataError(
                f'{self.ann_file} lists {len(self.data_list)} pictures, and none of them has an object: check that it '
                'is the file of annotations, or keep pictures without objects with keep_empty=True'
            )
        if empty := len(self.data_list) - len(kept):
            MMLogger.get_current_instance().info(
                f'{self.ann_file}: {empty} of {len(self.data_list)} pictures have no objects and are left out'
            )
        return kept

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels in one picture, for ``ClassBalancedDataset``."""
        return [instance['bbox_label'] for instance in self.get_data_info(idx)['instances']]


def read_annotations(file: str) -> dict[str, Any]:
    """The content of an annotation file.

    Raises:
        DataError: It cannot be read, or is not in COCO's form.
    """
    try:
        content = json.loads(Path(file).read_text('utf-8'))
    except OSError as error:
        raise DataError(
            f'{file}: cannot be read ({error.strerror}); check ann_file of the data set'
        ) from error
    except ValueError as error:  # no text, or no JSON
        raise DataError(
            f'{file} is not JSON ({error}): ann_file takes annotations in the form of COCO'
        ) from error
    missing = {'images', 'annotations', 'categories'} - set(content if isinstance(content, dict) else ())
    if missing:
        raise DataError(f'{file} lacks {sorted(missing)}: ann_file takes annotations in the form of COCO')
    return content


def _checked_classes(wanted: Sequence[str] | None, found: tuple[str, ...], file: str) -> tuple[str, ...]:
    if wanted is None or tuple(wanted) == found:
        return found
    lacking = [name for name in found if name not in wanted]
    unknown = [name for name in wanted if name not in found]
    details = [
        f'{len(lacking)} categories of the file are not among them, first {lacking[0]!r}' if lacking else '',
        f'{len(unknown)} of them are not in the file, first {unknown[0]!r}' if unknown else '',
        'the order is not that of the category ids' if not lacking and not unknown else '',
    ]
    raise DataError(
        f'{file}: classes names {len(wanted)} classes and the file has {len(found)} categories; '
        f'{", ".join(filter(None, details))}. Name those of the file in order of their ids, or leave classes out'
    )


def _fault(annotation: dict, width: int, height: int, *, needs_mask: bool) -> str | None:
    """What is wrong with an annotation of a picture of that size, in pixels."""
    box = annotation.get('bbox')
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))):
        return f'has no box (x, y, width, height): {box}'
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return f'has an inverted or empty box {box}'
    # Boxes may reach beyond the picture: mmdetection clips them. Of these nothing would be left.
    if min(x + w, width) <= max(x, 0) or min(y + h, height) <= max(y, 0):
        return f'has a box {box} outside of its picture of {width}×{height}'
    # As mmdetection does: such boxes give targets that are no numbers.
    if w < 1 or h < 1 or annotation.get('area', 1) <= 0:
        return f'has a box {box} smaller than a pixel, or an area of 0'
    segmentation = annotation.get('segmentation')
    if needs_mask and not segmentation:
        return 'has no segmentation, which the pipeline loads'
    if needs_mask and isinstance(segmentation, list) and not any(map(is_polygon, segmentation)):
        # mmdetection would make a region to ignore of it.
        return 'has a segmentation without a polygon of three corners or more'
    return None


def is_polygon(corners: Any) -> bool:
    """Whether a part of a segmentation, ``[x1, y1, x2, y2, …]``, has the three corners an area needs."""
    return isinstance(corners, list) and len(corners) >= 6 and len(corners) % 2 == 0


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
