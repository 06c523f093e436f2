"""Pictures: one folder per class for classification, and the scenes that the other formats refer to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from internvl_mm.data.digit_scenes.scene import Scene
from internvl_mm.data.digit_scenes.writers.files import SceneWriter, save_image, scene_path


def write_image_folder(root: Path, split: str, digits: Iterable[Scene]) -> dict[str, int]:
    """Write ``classification/<split>/<digit>/<number>.png``, the layout of torchvision's ImageFolder."""
    count = 0
    for count, scene in enumerate(digits, start=1):
        value = scene.digits[0].value
        # Numbered through all classes, so that a name says which scan was drawn.
        save_image(scene.image, root / 'classification' / split / str(value) / f'{count - 1:06d}.png')
    return {'classification_images': count}


class SceneImages(SceneWriter):
    """Writes ``scenes/<split>/<number>.jpg``: the pictures of detection, captions, conversations and questions."""

    def add(self, index: int, scene: Scene) -> None:
        """Write one picture."""
        save_image(scene.image, self.root / scene_path(self.split, index))
