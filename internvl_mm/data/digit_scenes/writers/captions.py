"""Captions in the forms that caption and retrieval data sets are read in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from internvl_mm.data.digit_scenes.captions import all_captions
from internvl_mm.data.digit_scenes.language import LANGUAGES
from internvl_mm.data.digit_scenes.scene import Scene
from internvl_mm.data.digit_scenes.writers.coco import image_entry
from internvl_mm.data.digit_scenes.writers.files import (
    SceneWriter,
    scene_file,
    scene_path,
    write_json,
    write_jsonl,
    write_text,
)


class Captions(SceneWriter):
    """Writes five captions per scene and language, four ways, under ``captions/``.

    - ``captions_<split>_<language>.json``: COCO captions (``images`` and ``annotations``).
    - ``karpathy_<split>_<language>.json``: list of ``{image, caption, image_id: "coco_<number>"}``.
    - ``flickr_<split>_<language>.txt``: a header line, then ``<number>.jpg,<caption>``, as Flickr30K retrieval files.
    - ``pairs_<split>.jsonl``: image–caption pairs of both languages, one per line.
    """

    def __init__(self, root: Path, split: str) -> None:
        super().__init__(root, split)
        self.images: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []

    def add(self, index: int, scene: Scene) -> None:
        """Note a scene's captions."""
        self.images.append(image_entry(index, scene))
        for language, captions in all_captions(scene).items():
            for caption in captions:
                image = scene_path(self.split, index)
                self.rows.append(
                    {'image': image, 'image_id': index, 'language': language, 'caption': caption}
                )

    def close(self) -> dict[str, int]:
        """Write the files."""
        folder = self.root / 'captions'
        # The one file with both languages: PairFilter(languages=...) tells them apart.
        write_jsonl(folder / f'pairs_{self.split}.jsonl', self.rows)
        for language in LANGUAGES:
            rows = [row for row in self.rows if row['language'] == language]
            ending = f'{self.split}_{language}'
            annotations = [
                {'id': number, 'image_id': row['image_id'], 'caption': row['caption']}
                for number, row in enumerate(rows, start=1)
            ]
            write_json(
                folder / f'captions_{ending}.json', {'images': self.images, 'annotations': annotations}
            )
            karpathy = [
                # Karpathy's lists call pictures so.
                {'image': row['image'], 'caption': row['caption'], 'image_id': f'coco_{row["image_id"]}'}
                for row in rows
            ]
            write_json(folder / f'karpathy_{ending}.json', karpathy)
            lines = [f'{scene_file(row["image_id"])},{row["caption"]}\n' for row in rows]
            # The first line names the columns, as in Flickr30k's file.
            write_text(folder / f'flickr_{ending}.txt', 'image,caption\n' + ''.join(lines))
        return {'captions': len(self.rows)}
