"""What a task predicted for one picture, as a record for JSON, a drawing and, for label maps, a file.

Kinds of tasks are told apart by the field they fill into their samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from internvl_mm.evaluation.drawing import class_colours, draw_classes, draw_objects, draw_scores
from internvl_mm.utils.errors import ConfigError

BEST = 5  # classes a classifier names


@dataclass(frozen=True)
class Outcome:
    """One picture's result.

    Attributes:
        record: Plain values.
        drawing: The picture with what was found.
        label_map: Class of each pixel, for segmentation.
    """

    record: dict[str, Any]
    drawing: Image.Image = field(repr=False)
    label_map: Image.Image | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Names:
    """Names of classes; numbers where there are none."""

    names: tuple[str, ...] = ()

    def __getitem__(self, label: int) -> str:
        return self.names[label] if label < len(self.names) else str(label)


def outcome_of(sample: Any, picture: Image.Image, names: Names, *, min_score: float) -> Outcome:
    """The result of one picture.

    Args:
        sample: With predictions filled in by a task.
        picture: The file as it is, in RGB.
        names: Of the classes.
        min_score: Objects with a lower score are left out.

    Raises:
        ConfigError: The task predicts nothing that can be shown.
    """
    for name, show in _KINDS.items():
        if name in sample:
            return show(sample, picture, names, min_score)
    raise ConfigError(
        f'the task predicts {sorted(sample.keys())}, but only {", ".join(_KINDS)} can be shown: use a classifier, a '
        'segmenter or a detector'
    )


def _classification(sample: Any, picture: Image.Image, names: Names, min_score: float) -> Outcome:
    probabilities = sample.pred_logits.float().softmax(-1)  # [C]
    scores, labels = probabilities.topk(min(BEST, len(probabilities)))
    best = [
        dict(label=label, name=names[label], score=score)
        for label, score in zip(labels.tolist(), scores.tolist())
    ]
    drawing = draw_scores(picture, [entry['name'] for entry in best], [entry['score'] for entry in best])
    return Outcome(dict(classes=best), drawing)


def _segmentation(sample: Any, picture: Image.Image, names: Names, min_score: float) -> Outcome:
    # [1, H, W] -> [H, W]
    labels = sample.pred_sem_seg.data[0].cpu()
    found, counts = labels.unique(return_counts=True)
    shares = [
        dict(label=label, name=names[label], share=count / labels.numel())
        for label, count in sorted(zip(found.tolist(), counts.tolist()), key=lambda pair: -pair[1])
    ]
    # A palette shows the classes in any viewer, while the pixels keep the indices.
    # More than a palette, or 8 bits, can hold.
    wide = labels.max() > 255
    label_map = Image.fromarray(labels.numpy().astype(np.uint16 if wide else np.uint8))
    if not wide:
        label_map.putpalette(np.array(class_colours(256), dtype=np.uint8).flatten().tolist())
    return Outcome(dict(classes=shares), draw_classes(picture, labels), label_map)


def _detection(sample: Any, picture: Image.Image, names: Names, min_score: float) -> Outcome:
    found = sample.pred_instances.cpu()
    found = found[found.scores >= min_score]
    masks = found.get('masks')  # bool [N, H, W], of detectors with a mask head
    objects = []
    for index, (box, label, score) in enumerate(
        zip(found.bboxes.tolist(), found.labels.tolist(), found.scores.tolist())
    ):
        left, top, right, bottom = box
        # As COCO's result files, with the number of the class among the model's classes.
        entry = dict(
            category_id=label, name=names[label], score=score, bbox=[left, top, right - left, bottom - top]
        )
        if masks is not None:
            entry['segmentation'] = _run_lengths(masks[index].numpy())
        objects.append(entry)
    captions = [f'{entry["name"]} {entry["score"]:.2f}' for entry in objects]
    drawing = draw_objects(picture, found.bboxes, found.labels.tolist(), captions, masks)
    return Outcome(dict(objects=objects), drawing)


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    # COCO's run lengths go down the columns, hence Fortran's order.
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    # Compressed run lengths are ASCII by design, but come as bytes, which JSON does not take.
    return dict(size=[int(side) for side in encoded['size']], counts=encoded['counts'].decode('ascii'))


_KINDS: dict[str, Callable[[Any, Image.Image, Names, float], Outcome]] = {
    'pred_logits': _classification,
    'pred_sem_seg': _segmentation,
    'pred_instances': _detection,
}


def named(classes: Sequence[str] | None) -> Names:
    """Names of a data set's or a task's classes."""
    return Names(tuple(classes or ()))
