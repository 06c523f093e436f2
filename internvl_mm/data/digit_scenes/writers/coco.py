"""Instances in the JSON form of COCO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from internvl_mm.data.digit_scenes.scene import Scene
from internvl_mm.data.digit_scenes.writers.files import SceneWriter, scene_file, write_json


class CocoInstances(SceneWriter):
    """Writes ``detection/annotations/instances_<split>.json`` about the pictures in ``scenes/<split>``.

    Category d + 1 is digit d. Boxes are (x, y, width, height), tight around the visible pixels. Masks are compressed
    run lengths (``iscrowd`` 0), not polygons: 0, 4, 6, 8 and 9 have holes, which COCO's polygons cannot express.
    """

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, index: int, scene: Scene) -> None:
        """Note a scene's picture and digits."""
        self.images.append(image_entry(index, scene))
        for digit in scene.digits:
            # COCO's runs go down the columns, so pycocotools takes column-major arrays alone.
            runs = rle.encode(np.asfortranarray(digit.mask, np.uint8))
            x1, y1, x2, y2 = digit.box
            self.annotations.append(
                {
                    'id': len(self.annotations) + 1,  # from 1: COCO's evaluation takes id 0 for "no match"
                    'image_id': index,
                    'category_id': digit.value + 1,  # from 1, as in COCO
                    'bbox': [x1, y1, x2 - x1, y2 - y1],  # left, top, width, height
                    'area': int(digit.mask.sum()),  # visible pixels
                    'segmentation': {'size': runs['size'], 'counts': runs['counts'].decode('ascii')},
                    'iscrowd': 0,
                    'attributes': {'colour': digit.colour.en, 'source': digit.source},
                }
            )

    def close(self) -> dict[str, int]:
        """Write the JSON file."""
        categories = [{'id': value + 1, 'name': str(value), 'supercategory': 'digit'} for value in range(10)]
        content = {'images': self.images, 'annotations': self.annotations, 'categories': categories}
        write_json(self.root / 'detection' / 'annotations' / f'instances_{self.split}.json', content)
        return {'scenes': len(self.images), 'instances': len(self.annotations)}


def image_entry(index: int, scene: Scene) -> dict[str, Any]:
    """Return a scene as an entry of COCO's ``images``."""
    return {'id': index, 'file_name': scene_file(index), 'width': scene.width, 'height': scene.height}
