"""File names and file forms that all writers share. Every path in the data set is relative to its root folder."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from internvl_mm.data.digit_scenes.scene import Scene


class SceneWriter(ABC):
    """Writes one format of one split, scene by scene, so that every scene is composed only once.

    Args:
        root: Root folder of the data set.
        split: ``train`` or ``test``.
    """

    def __init__(self, root: Path, split: str) -> None:
        self.root = root
        self.split = split

    @abstractmethod
    def add(self, index: int, scene: Scene) -> None:
        """Take scene number ``index``."""

    def close(self) -> dict[str, int]:
        """Write what is left to write and return counts by name."""
        return {}


def scene_file(index: int) -> str:
    """File name of a scene; its number is the image id in every annotation."""
    return f'{index:06d}.jpg'


def scene_path(split: str, index: int) -> str:
    """Path of a scene's picture relative to the root of the data set."""
    return f'scenes/{split}/{scene_file(index)}'


def save_image(pixels: np.ndarray, path: Path) -> None:
    """Write uint8 pixels ([H, W, 3] or [H, W]) in the form the suffix says; JPEG keeps full colour resolution."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # PNG has neither option and ignores both.
    Image.fromarray(pixels).save(path, quality=92, subsampling=0)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with Unix line ends, the same on every system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8', newline='\n')


def write_json(path: Path, content: object, indent: int | None = None) -> None:
    """Write one JSON document; Chinese stays readable."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=indent) + '\n')


def write_jsonl(path: Path, rows: Iterable[object]) -> None:
    """Write one JSON document per line."""
    write_text(path, ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in rows))
