"""Conversations with pictures, videos or text alone, from one annotation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from internvl_mm.data.chat_records import parse_record
from internvl_mm.data.chat_sizes import measure_sizes
from internvl_mm.data.datasets.chat_sources import open_source
from internvl_mm.data.datasets.guarded import GuardedDataset, OnError, named
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.data.seeding import seeded
from internvl_mm.registry import DATASETS, TRANSFORMS
from internvl_mm.structures import ChatRecord
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.hashing import hash_settings


@DATASETS.register_module()
class ChatDataset(GuardedDataset):
    """One annotation in the published form: index to one :class:`ChatSample`.

    ``dataset[index]`` is ``dict(inputs=ChatSample)``. Random choices (frames, JPEG quality) are a function of
    (seed, epoch, index).

    Args:
        annotation: JSONL file, table or tar shards, see :func:`open_source`.
        encoder: A :class:`ChatEncoder` or its config: from record to tiles and tokens.
        root: Prefix of the paths in the annotation.
        max_tiles: Most tiles of a sample, for this data set alone (``max_dynamic_patch`` of meta files).
        augment: Degrade tiles by JPEG (``data_augment`` of meta files).
        name: See :class:`GuardedDataset`.
        on_error: See :class:`GuardedDataset`. Samples longer than the encoder's ``max_length`` under
            ``overlong='drop'`` are left out of their batch and reported under any policy.

    Raises:
        DataError: The annotation cannot be read.
    """

    def __init__(
        self,
        annotation: str,
        encoder: Callable[[ChatRecord], Any] | dict,
        *,
        root: str = '',
        max_tiles: int | None = None,
        augment: bool = False,
        name: str | None = None,
        on_error: OnError = 'fail',
    ):
        super().__init__(name=name, on_error=on_error)
        built: Any = TRANSFORMS.build(encoder) if isinstance(encoder, dict) else encoder
        # A copy: the data sets of a mixture share one encoder and differ in these settings.
        self.encoder = built.variant(max_tiles=max_tiles, augment=augment)
        self.root, self.annotation = root, annotation
        self.source = open_source(annotation)
        # For the fingerprint: the first changes how many tiles there are, the second their pixels.
        self._settings = (max_tiles, augment)
        self._sizes: np.ndarray | None = None
        self.keep_sizes(None)

    def __len__(self) -> int:
        return len(self.source)

    def record(self, row: int) -> ChatRecord:
        """What the annotation says about one sample.

        Raises:
            DataError: The sample is not what the format allows.
        """
        return parse_record(self.source[row], self.root)

    def load(self, index: SampleIndex) -> dict[str, Any]:
        """See :meth:`GuardedDataset.load`."""
        return self.load_row(int(index), index)

    def load_row(self, row: int, index: SampleIndex) -> dict[str, Any]:
        """Load a row with the random choices of another index: a mixture repeats rows, each time differently."""
        # By the index, not the row: a row that a mixture repeats gets other frames each time.
        with seeded(index.seed, index.epoch, index):
            sample = self.encoder(self.record(row))
        # The row, not the index of a mixture: reports then point at a line of the file.
        return dict(inputs=replace(sample, dataset=self.name, index=row, path=self.path(row)))

    def path(self, index: int) -> str:
        """File and line."""
        return self.source.path(int(index))

    def measure(self, index: int) -> tuple[int, int]:
        """Tokens and tiles of one sample, from its annotation.

        Raises:
            DataError: It is bad.
        """
        try:
            return self.encoder.measure(self.record(index))
        except DataError as error:
            # In place: as an error of its own kind, an OverlongError may still be dropped.
            named(error, self.path(index))
            raise

    def sizes(self) -> np.ndarray:
        """Tokens and tiles of every sample: int64 ``[len, 2]``, ``UNKNOWN`` for bad ones; measured once, no pixels."""
        if self._sizes is None:
            self._sizes = measure_sizes(self, workers=self._workers, folder=self._folder)
        return self._sizes

    def keep_sizes(self, folder: str | None, *, workers: int = 0) -> None:
        """Say how :meth:`sizes` measures: in so many processes, and kept in a folder for the next run."""
        self._folder, self._workers = folder, workers

    @property
    def metainfo(self) -> dict[str, Any]:
        """See :class:`GuardedDataset`."""
        return dict(name=self.name, encoder=getattr(self.encoder, 'facts', {}))

    def fingerprint(self) -> str:
        """See :class:`GuardedDataset`."""
        encoder = self.encoder
        # Whatever changes tokens or tiles of a sample, so that kept sizes and packs of other settings are not used.
        parts = [encoder.tiling, encoder.text.template, encoder.tokens_per_tile, *encoder.text.settings]
        parts += [sorted(vars(encoder.frames).items()), encoder.frame_prefix, encoder.video_slot]
        return hash_settings(
            dict(
                dataset=[
                    type(self).__qualname__,
                    self.name,
                    self.annotation,
                    self.root,
                    self.source.signature(),
                ],
                settings=[*self._settings, *map(str, parts)],
            )
        )
