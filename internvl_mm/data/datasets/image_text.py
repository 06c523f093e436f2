"""Images with captions: lists of pairs, webdataset shards, Parquet tables."""

from __future__ import annotations

import hashlib
import json
import tarfile
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from braceexpand import braceexpand
from PIL import Image
from torch import Tensor

from internvl_mm.data.captions import (
    Pair,
    PairFilter,
    TextTable,
    image_id_of,
    numbered,
    read_pairs,
    texts_of,
)
from internvl_mm.data.datasets.guarded import GuardedDataset, Item
from internvl_mm.data.datasets.paths import PathTable, check_confined, check_folder
from internvl_mm.data.datasets.table import _load_table
from internvl_mm.data.datasets.tar_shards import IMAGE_SUFFIXES, _split_name
from internvl_mm.data.decode import ImageDecoder, decoder_of
from internvl_mm.data.pipeline import Pipeline, Transform
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.data.seeding import seeded
from internvl_mm.registry import DATASETS, TRANSFORMS
from internvl_mm.structures import ImageSample
from internvl_mm.utils.console import track
from internvl_mm.utils.errors import DataError, did_you_mean
from internvl_mm.utils.hashing import hash_settings
from internvl_mm.utils.paths import ExistingFile, ExistingFolder, ExistingPath

NEGATIVE_TRIES = 100  # captions drawn in search of one of another image


class ImageTextDataset(GuardedDataset):
    """Index to one image with one of its captions.

    Samples carry ``caption``, ``image_id`` (a number, the same for all captions of an image) and, with
    ``with_negative``, ``negative``: a caption of another image, drawn evenly as published.

    Args:
        pairs: What the data set holds, after filtering.
        transform: See :class:`Pipeline`.
        decoder: An :class:`ImageDecoder` or its config.
        caption_transform: From caption to caption, for example
            :class:`~internvl_mm.data.captions.CleanCaption`, or its config.
        with_negative: Also give a caption of another image.
        options: See :class:`GuardedDataset`.

    Raises:
        DataError: There is no pair, or ``with_negative`` and only one image.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        transform: Sequence[Transform] = (),
        decoder: ImageDecoder | dict | None = None,
        caption_transform: Callable[[str], str] | dict | None = None,
        with_negative: bool = False,
        **options: Any,
    ):
        super().__init__(**options)
        self.captions = TextTable(pair.caption for pair in pairs)
        self.image_ids = numbered([pair.image_id for pair in pairs])
        self.transform = Pipeline(transform)
        self.decoder = decoder_of(decoder)
        built = (
            TRANSFORMS.build(caption_transform) if isinstance(caption_transform, dict) else caption_transform
        )
        self.caption_transform = built
        self.with_negative = with_negative
        if not pairs:
            raise DataError(f"data set '{self.name}' has no pairs")
        if with_negative and len(np.unique(self.image_ids)) < 2:
            raise DataError(f"data set '{self.name}' has one image only: no caption belongs to another")

    @abstractmethod
    def read(self, index: SampleIndex) -> bytes | Path | Image.Image:
        """The image of one sample: bytes of its file, its path, or a picture made on the fly."""

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def metainfo(self) -> dict[str, Any]:
        """See :class:`GuardedDataset`."""
        return dict(name=self.name, classes=None)

    def fingerprint(self) -> str:
        """See :class:`GuardedDataset`."""
        # Names and captions, not pixels: hashing a whole data set would read it once more.
        content = hashlib.sha256()
        for index in range(len(self)):
            content.update(f'{self.path(index)}\t{self.captions[index]}\n'.encode())
        return hash_settings(
            dict(
                dataset=[type(self).__qualname__, self.name],
                pairs=content.hexdigest(),
                decoder=repr(self.decoder),
                transform=self.transform.settings,
                caption_transform=repr(self.caption_transform),
            )
        )

    def image_fingerprint(self) -> str:
        """Hash of what decides the images where their paths do not say it all; by default nothing more."""
        return ''

    def caption(self, index: int) -> str:
        """The caption as the model gets it.

        Raises:
            DataError: There is none.
        """
        text = self.captions[index]
        text = self.caption_transform(text) if self.caption_transform is not None else text
        if not text.strip():
            raise DataError(
                f'{self.path(index)}: image without text (its caption is empty); leave such pairs out with '
                "filter=dict(type=PairFilter), or record them with on_error='skip'"
            )
        return text

    def load(self, index: SampleIndex) -> Item:
        """See :class:`GuardedDataset`."""
        # First: a pair without text costs no decoding.
        caption = self.caption(index)
        inputs = self.image(index)
        where = dict(dataset=self.name, index=int(index), path=self.path(index), epoch=index.epoch)
        sample = ImageSample(metainfo=dict(where, image_id=int(self.image_ids[index]), caption=caption))
        if self.with_negative:
            sample.set_metainfo(dict(negative=self._negative(index)))
        return dict(inputs=inputs, data_samples=sample)

    def image(self, index: SampleIndex) -> Tensor:
        """The image of a pair alone, uint8 ``[3, H, W]``."""
        source = self.read(index)
        image = source if isinstance(source, Image.Image) else self.decoder(source, self.path(index))
        with seeded(index.seed, index.epoch, index):
            return self.transform(image)

    def _negative(self, index: SampleIndex) -> str:
        # The 1 sets it apart from the stream of the transforms, whose key is the first three numbers.
        draws = np.random.default_rng([index.seed, index.epoch, int(index), 1])
        for choice in draws.integers(len(self), size=NEGATIVE_TRIES).tolist():
            if self.image_ids[choice] == self.image_ids[index]:
                continue
            try:
                # In the epoch of the index: drawn data sets word their captions anew in each.
                return self.caption(index.to(choice))
            except DataError:
                continue  # empty, perhaps only once cleaned: told where that pair is the sample
        raise DataError(f'{self.path(index)}: no caption of another image among {NEGATIVE_TRIES} drawn ones')


class OnePerImage(GuardedDataset):
    """The different images of a data set of pairs, each once: what is to be embedded when captions go apart.

    Samples carry the index of the first pair of their image.

    Args:
        pairs: The data set; the name and what a bad image does are its own.
    """

    def __init__(self, pairs: ImageTextDataset):
        super().__init__(name=pairs.name, on_error=pairs.on_error)
        self.pairs = pairs
        # Position of the first pair of each image, ascending.
        self.first = np.sort(np.unique(pairs.image_ids, return_index=True)[1])

    def __len__(self) -> int:
        return len(self.first)

    def path(self, index: int) -> str | None:
        """See :class:`GuardedDataset`."""
        return self.pairs.path(int(self.first[index]))

    @property
    def metainfo(self) -> dict[str, Any]:
        """See :class:`GuardedDataset`."""
        return self.pairs.metainfo

    def fingerprint(self) -> str:
        """See :class:`GuardedDataset`; captions do not count, so that languages share their images."""
        paths = hashlib.sha256('\n'.join(str(self.path(index)) for index in range(len(self))).encode())
        return hash_settings(
            dict(
                paths=paths.hexdigest(),
                pairs=self.pairs.image_fingerprint(),
                decoder=repr(self.pairs.decoder),
                transform=self.pairs.transform.settings,
            )
        )

    def load(self, index: SampleIndex) -> Item:
        """See :class:`GuardedDataset`."""
        pair = index.to(int(self.first[index]))
        where = dict(dataset=self.name, index=int(pair), path=self.path(index), epoch=index.epoch)
        return dict(inputs=self.pairs.image(pair), data_samples=ImageSample(metainfo=where))


@DATASETS.register_module()
class CaptionListDataset(ImageTextDataset):
    """Pairs listed in a file: JSON lines, Karpathy's or COCO's JSON, Flickr30k's text.

    Args:
        root: Folder the images are below; no path may lead out of it.
        file: See :func:`~internvl_mm.data.captions.read_pairs`.
        filter: A :class:`~internvl_mm.data.captions.PairFilter` or its config; all pairs when left out.
        options: See :class:`ImageTextDataset`.
    """

    def __init__(
        self,
        root: ExistingFolder,
        file: ExistingFile,
        *,
        filter: PairFilter | dict | None = None,
        **options: Any,
    ):
        # From the options: the base class, which sets the name, needs the pairs first.
        pairs = self.keep(_kept(read_pairs(file), filter, options.get('name') or str(file)))
        images = [check_confined(pair.image, str(file)) for pair in pairs]
        self._paths = PathTable(check_folder(root, 'the images of the captions'), images)
        super().__init__(pairs, **options)

    def keep(self, pairs: list[Pair]) -> list[Pair]:
        """Which of the filtered pairs are samples: here all of them."""
        return pairs

    def path(self, index: int) -> str:
        """See :class:`GuardedDataset`."""
        return str(self._paths[index])

    def read(self, index: SampleIndex) -> Path:
        """See :class:`ImageTextDataset`."""
        return self._paths[index]


@DATASETS.register_module()
class CaptionShardDataset(ImageTextDataset):
    """Pairs in uncompressed tar files as webdataset lays them out: ``<key>.jpg`` beside ``<key>.txt`` or ``.json``.

    Headers are read once, so that every pair can be reached by index. A pair that lacks its image or its text counts
    as a bad sample (see ``on_error``).

    Args:
        shards: Paths of the shards, with braces for ranges: ``'train-{0000..1023}.tar'``.
        caption_key: Field that holds the caption, or a list of captions, in ``.json`` members, whose other fields a
            filter sees.
        filter: See :class:`CaptionListDataset`.
        options: See :class:`ImageTextDataset`.
    """

    def __init__(
        self,
        shards: str | Sequence[str],
        *,
        caption_key: str = 'caption',
        filter: PairFilter | dict | None = None,
        **options: Any,
    ):
        # shard_{000..127}.tar stands for 128 files.
        patterns = [shards] if isinstance(shards, str) else shards
        paths = [Path(path) for pattern in patterns for path in braceexpand(pattern)]
        if missing := [path for path in paths if not path.is_file()]:
            raise DataError(f'{len(missing)} of {len(paths)} shards do not exist, the first: {missing[0]}')
        found = [pair for path in track(paths, 'indexing shards') for pair in _shard_pairs(path, caption_key)]
        pairs = _kept(found, filter, options.get('name') or str(patterns[0]))
        self._members = TextTable(pair.image for pair in pairs)
        # A pair without image has size 0.
        # Offset and size in bytes, [N, 2].
        self._where = np.array([(pair.row['_offset'], pair.row['_size']) for pair in pairs], np.int64)
        super().__init__(pairs, **options)

    def path(self, index: int) -> str:
        """Shard and member, as ``shard.tar/member.jpg``."""
        return self._members[index].replace('\t', '/')

    def read(self, index: SampleIndex) -> bytes:
        """See :class:`ImageTextDataset`."""
        # By position, without tarfile, which would read all headers again.
        offset, size = self._where[index].tolist()
        if not size:
            raise DataError(f'{self.path(index)}: text without image beside it')
        shard = self._members[index].split('\t')[0]
        try:
            with open(shard, 'rb') as file:
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise DataError(f'{shard}: cannot be read ({error.strerror})') from error


@DATASETS.register_module()
class CaptionTableDataset(ImageTextDataset):
    """Pairs in Parquet or Arrow files, through the ``datasets`` library.

    Args:
        path: A file, a folder of such, or a folder written by ``save_to_disk``.
        image_column: Column with the image: a struct of ``bytes`` and ``path``, or bytes.
        caption_column: Column with the caption, or a list of captions; the other columns a filter sees.
        filter: See :class:`CaptionListDataset`.
        options: See :class:`ImageTextDataset`.
    """

    def __init__(
        self,
        path: ExistingPath,
        *,
        image_column: str = 'image',
        caption_column: str = 'caption',
        filter: PairFilter | dict | None = None,
        **options: Any,
    ):
        import datasets as hf

        self._source = Path(path)
        self._folder = self._source if self._source.is_dir() else self._source.parent
        table = _load_table(self._source)
        for setting, column in dict(image_column=image_column, caption_column=caption_column).items():
            if column not in table.column_names:
                hint = did_you_mean(column, table.column_names)
                raise DataError(
                    f"{path}: {setting}='{column}' is not among its columns {table.column_names}.{hint}"
                )
        # As bytes: our own decoder reads them, as it does files.
        if isinstance(table.features[image_column], hf.Image):
            table = table.cast_column(image_column, hf.Image(decode=False))
        # Without the pictures, which would all be read from disk to list the captions.
        rows = enumerate(table.remove_columns([image_column]))
        listed = (
            Pair(str(number), text, image_id_of(row, str(number)), row)
            for number, row in rows
            for text in texts_of(row[caption_column], f'{path}[{number}]')
        )
        pairs = _kept(listed, filter, options.get('name') or str(path))
        # The filter may have left rows out: where each pair stands in the table.
        self._rows = np.array([int(pair.image) for pair in pairs])
        self._images, self._column = table.select_columns([image_column]), image_column
        super().__init__(pairs, **options)

    def path(self, index: int) -> str:
        """Table and row, as ``table.parquet[7]``."""
        return f'{self._source}[{self._rows[index]}]'

    def read(self, index: SampleIndex) -> bytes | Path:
        """See :class:`ImageTextDataset`."""
        cell = self._images[int(self._rows[index])][self._column]
        content, file = (cell.get('bytes'), cell.get('path')) if isinstance(cell, dict) else (cell, None)
        if content is None and file:
            # A table may be a stranger's: its paths lead nowhere but below its folder.
            return self._folder / check_confined(file, self.path(index))
        if not isinstance(content, bytes):
            raise DataError(f'{self.path(index)}: text without image')
        return content


def _kept(pairs: Iterator[Pair] | Sequence[Pair], chosen: PairFilter | dict | None, name: str) -> list[Pair]:
    wanted = TRANSFORMS.build(chosen) if isinstance(chosen, dict) else chosen
    return list(pairs) if wanted is None else wanted(pairs, name)


def _shard_pairs(shard: Path, caption_key: str) -> Iterator[Pair]:
    try:
        # 'r:': uncompressed only, where a member is a run of bytes that can be read by itself.
        with tarfile.open(shard, 'r:') as archive:
            # A sparse member is no contiguous run of bytes.
            files = (member for member in archive if member.isreg() and not member.issparse())
            # Neighbours only: webdataset writes the members of a sample one after the other.
            for key, members in groupby(files, key=lambda member: _split_name(member.name)[0]):
                yield from _pairs_of_sample(
                    archive, shard, key, {_split_name(m.name)[1]: m for m in members}, caption_key
                )
    except (tarfile.TarError, EOFError) as error:
        raise DataError(
            f'{shard}: damaged, or not an uncompressed tar file ({error}); copy it again'
        ) from error


def _pairs_of_sample(
    archive: tarfile.TarFile, shard: Path, key: str, members: dict[str, tarfile.TarInfo], caption_key: str
) -> Iterator[Pair]:
    def content(suffix: str) -> bytes:
        file = archive.extractfile(members[suffix])
        return file.read() if file else b''

    row: dict[str, Any] = {}
    try:
        if 'json' in members:
            row = dict(json.loads(content('json')))
        field = content('txt').decode() if 'txt' in members else row.get(caption_key)
    except (ValueError, TypeError) as error:  # TypeError: JSON, but no object
        raise DataError(f'{shard}/{key}: its text is damaged ({error})') from error
    image = next((members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members), None)
    # bytes in the shard
    name, offset, size = (image.name, image.offset_data, image.size) if image else (key, 0, 0)
    place = dict(_offset=offset, _size=size)
    # Joined by a tab, since both parts may hold slashes: read() takes the shard off again.
    image_id = image_id_of(row, f'{shard}/{key}')
    for caption in texts_of(field, f'{shard}/{key}'):
        yield Pair(f'{shard}\t{name}', caption, image_id, {**row, **place})
