"""Texts to pictures of a folder, answered as a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from internvl_mm.data.decode import ImageDecoder, decoder_of
from internvl_mm.engine.features import FeatureCache
from internvl_mm.evaluation.report_html import templates, write_page
from internvl_mm.models.tasks import ImageTextTask
from internvl_mm.utils.console import console
from internvl_mm.utils.errors import ConfigError, DataError

from .image_index import Hit, ImageIndex, PictureFiles, build_index, embed_queries, weights_hash
from .images import find_images
from .inferencer import dataset_of, load_task

THUMBNAIL = 224  # longest side in pixels of a picture on the page


class Retriever:
    """An image–text model with an index of pictures.

    Args:
        cfg: A config of an image–text model; its first benchmark says how pictures are read.
        checkpoint: As ``load_from``; ``None`` takes the config's.

    Raises:
        ConfigError: The model has no text tower, or the config has no benchmark.
        CheckpointError: The weights do not fit.
    """

    def __init__(self, cfg: Config, checkpoint: str | None = None):
        parts = cfg.to_dict()
        dataset = dataset_of(parts)
        self.transform, self.decoder = (
            list(dataset.get('transform') or ()),
            decoder_of(dataset.get('decoder')),
        )
        task = load_task(parts, checkpoint or parts.get('load_from'))
        if not isinstance(task, ImageTextTask):
            raise ConfigError(
                f'model={type(task).__name__} embeds no texts: take a config of an image–text model, such as '
                'zero_shot/flickr30k'
            )
        self.task = task
        # Pictures vary in number, and so does the file they would share: small files lose little when stopped.
        # However many of a folder are no pictures after all, the others can be found.
        features = {
            'shard_size': 1024,
            'max_fraction': 1.0,
            **(parts.get('features') or {}),
            'num_workers': 0,
        }
        self.cache = FeatureCache(**features)

    def index(self, file: str | Path, images: Sequence[str | Path] = ()) -> ImageIndex:
        """The index in a file, built from images when some are given.

        Raises:
            DataError: The file is no index, or there are no pictures.
            CheckpointError: The index is of other weights.
        """
        if not images:
            if not Path(file).is_file():
                raise DataError(f'{file} does not exist: give the folder of pictures to build it from')
            return ImageIndex.load(file, weights=weights_hash(self.task))
        built = build_index(
            self.task, PictureFiles(find_images(images), self.transform, self.decoder), self.cache
        )
        built.save(file)
        console.print(f'{len(built.paths)} pictures in {file}, weights {built.weights}')
        return built

    def answer(self, index: ImageIndex, queries: Sequence[str], count: int) -> list[tuple[str, list[Hit]]]:
        """The best pictures of each query."""
        return list(zip(queries, index.search(embed_queries(self.task, queries), count), strict=True))


def write_hits(answers: Sequence[tuple[str, list[Hit]]], path: str | Path, *, searched: int) -> Path:
    """Write a page that holds everything it shows.

    Args:
        answers: Hits of each query.
        path: The HTML file.
        searched: Pictures in the index.
    """
    shown = [
        (query, [(hit.path, hit.score, _thumbnail(hit.path)) for hit in hits]) for query, hits in answers
    ]
    page = templates().get_template('retrieval.html').render(answers=shown, searched=searched)
    return write_page(Path(path), page)


def _thumbnail(path: str) -> str | None:
    """The picture as a data URL; ``None`` when its file is gone since the index was built."""
    try:
        image = ImageDecoder()(Path(path), path)
    except DataError:
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, 'JPEG', quality=85)
    return 'data:image/jpeg;base64,' + base64.b64encode(file.getvalue()).decode()
