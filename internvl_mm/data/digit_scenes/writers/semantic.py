"""Semantic masks in the folders of ADE20K."""

from __future__ import annotations

import numpy as np

from internvl_mm.data.digit_scenes.scene import Scene
from internvl_mm.data.digit_scenes.writers.files import SceneWriter, save_image, scene_file

ADE_SPLITS = {'train': 'training', 'test': 'validation'}


class SemanticMasks(SceneWriter):
    """Writes ``segmentation/{images,annotations}/{training,validation}``.

    A mask is an 8-bit grey PNG of indices: 0 = background, d + 1 = digit d. Read like ADE20K, with
    ``reduce_zero_label=True``, background becomes 255 (ignored) and digit d becomes class d (10 classes); read with
    ``reduce_zero_label=False`` background is class 0 of 11.
    """

    def add(self, index: int, scene: Scene) -> None:
        """Write a picture and its mask."""
        folder, split = self.root / 'segmentation', ADE_SPLITS[self.split]
        save_image(scene.image, folder / 'images' / split / scene_file(index))
        # PNG: a JPEG would blur labels into others.
        save_image(semantic_mask(scene), folder / 'annotations' / split / f'{index:06d}.png')


def semantic_mask(scene: Scene) -> np.ndarray:
    """Return uint8 [H, W]: 0 for background, d + 1 where digit d is visible."""
    mask = np.zeros(scene.image.shape[:2], np.uint8)
    for digit in scene.digits:
        mask[digit.mask] = digit.value + 1  # masks are of what is visible: no two overlap
    return mask
