"""Files of a user's choice through the evaluation pipeline of a config."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from mmcv.transforms import LoadAnnotations
from mmengine.dataset import Compose
from mmengine.utils import get_object_from_string
from torch import Tensor

from internvl_mm.data.decode import ImageDecoder, decoder_of
from internvl_mm.data.loading import LoadImage, LoadSegMap
from internvl_mm.data.pipeline import Pipeline
from internvl_mm.preprocess.image import CenterCrop, ResizeShortSide
from internvl_mm.structures import ImageSample
from internvl_mm.utils.errors import ConfigError, DataError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif')
# Steps of a pipeline that ask for labels, which a picture of the user's has not.
LABEL_STEPS = (LoadSegMap, LoadAnnotations)

Item = dict[str, Any]


@dataclass(frozen=True)
class Reader:
    """How pictures become samples.

    Attributes:
        decode: File to RGB picture, as the pipeline sees it.
        prepare: Path and number to ``dict(inputs=uint8 Tensor[3, H, W], data_samples=...)``.
    """

    decode: ImageDecoder
    prepare: Callable[[Path, int], Item]


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """Files as given and, of folders, all pictures at any depth in order of their names.

    Raises:
        DataError: A path does not exist, or a folder has no pictures.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise DataError(f'{path} does not exist: give image files or folders of them')
        inside = sorted(_pictures(path)) if path.is_dir() else [path]
        if not inside:
            raise DataError(f'{path}: no pictures in this folder (looked for {", ".join(SUFFIXES)})')
        found += inside
    # A file given twice, or by name and by folder, counts once, where it came first.
    return list(dict.fromkeys(found))


def _pictures(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob('*') if file.suffix.lower() in SUFFIXES and file.is_file())


def build_reader(dataset: dict, *, image_size: int | None) -> Reader:
    """How a data set reads pictures, for any picture.

    Args:
        dataset: Settings of an evaluation data set: with ``transform`` and ``decoder``, or with a ``pipeline`` of mmseg
            or mmdet, however deep.
        image_size: Side of the square the model was made for; used where the data set, being drawn, has no transform.

    Raises:
        ConfigError: It is neither kind of data set.
    """
    steps = _pipeline_of(dataset)
    if steps is not None:
        return _pipeline_reader(steps)
    transform = dataset.get('transform')
    if not transform:
        # Drawn data sets (DigitScenes) name the side of their pictures.
        size = dataset.get('size') or image_size
        if size is None:
            raise ConfigError(
                'the data set of the benchmark has no transform, and the backbone no image_size: name another '
                'benchmark with --benchmark, or give its data set a transform'
            )
        transform = [dict(type=ResizeShortSide, size=size), dict(type=CenterCrop, size=size)]
    return _transform_reader(Pipeline(transform), decoder_of(dataset.get('decoder')))


def _transform_reader(transform: Pipeline, decode: ImageDecoder) -> Reader:
    def read(path: Path, index: int) -> Item:
        pixels: Tensor = transform(decode(path))
        sample = ImageSample(metainfo=dict(dataset='images', index=index, path=str(path)))
        return dict(inputs=pixels, data_samples=sample)

    return Reader(decode, read)


def _pipeline_reader(steps: Sequence[Any]) -> Reader:
    kept = [step for step in steps if not _reads_labels(step)]
    pipeline = Compose(kept)
    if not isinstance(pipeline.transforms[0], LoadImage):
        # Theirs has neither our limits nor our messages.
        pipeline.transforms[0] = LoadImage()

    def read(path: Path, index: int) -> Item:
        try:
            # Transforms of mmseg and mmdet look up the last two even where there are no labels.
            item = pipeline(dict(img_path=str(path), img_id=index, seg_fields=[], instances=[]))
        except (OSError, cv2.error) as error:
            raise DataError(f'{path} cannot be read ({error})') from error
        item['data_samples'].set_metainfo(dict(dataset='images', index=index, path=str(path)))
        return item

    return Reader(pipeline.transforms[0].decoder, read)


def _reads_labels(step: Any) -> bool:
    # A pipeline may hold configs and built transforms side by side.
    kind = class_of(step) if isinstance(step, dict) else type(step)
    return isinstance(kind, type) and issubclass(kind, LABEL_STEPS)


def class_of(part: dict) -> Any:
    """The class a part names: configs that come from files hold dotted names in place of classes."""
    kind = part.get('type')
    return get_object_from_string(kind) if isinstance(kind, str) and '.' in kind else kind


def _pipeline_of(dataset: dict) -> list | None:
    """The pipeline of a data set of mmseg or mmdet, or of the one it wraps."""
    if dataset.get('pipeline'):
        return list(dataset['pipeline'])
    inner = dataset.get('dataset')
    return _pipeline_of(inner) if isinstance(inner, dict) else None
