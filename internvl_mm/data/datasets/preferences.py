"""Questions with a better and a worse answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from internvl_mm.data.chat_records import parse_record
from internvl_mm.data.datasets.chat_sources import open_source
from internvl_mm.data.datasets.guarded import GuardedDataset, OnError
from internvl_mm.data.datasets.meta_mixture import MetaEntry, MetaMixture
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.data.seeding import seeded
from internvl_mm.registry import DATASETS, TRANSFORMS
from internvl_mm.structures import ChatRecord
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.hashing import hash_settings


def both_conversations(line: dict[str, Any]) -> list[dict[str, Any]]:
    """The two conversations of a line, with the chosen and with the rejected answer.

    Raises:
        DataError: It has not all three texts.
    """
    texts = [line.get(field) for field in ('question', 'chosen', 'rejected')]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f'needs question, chosen and rejected as texts; it has {texts!r:.160}')
    question, *answers = texts
    return [
        # All else of the line stays: both conversations are about the same pictures.
        {**line, 'conversations': [{'from': 'human', 'value': question}, {'from': 'gpt', 'value': answer}]}
        for answer in answers
    ]


@DATASETS.register_module()
class PreferenceDataset(GuardedDataset):
    """One annotation of preferences: index to the samples of the chosen and of the rejected answer.

    A line has ``question``, ``chosen``, ``rejected`` (texts) and ``image`` or ``video`` in the published form.
    ``dataset[index]`` is ``dict(inputs=[chosen, rejected])``; :func:`collate_preferences` makes batches.

    Args:
        annotation: JSONL file, table or tar shards, see :func:`open_source`.
        encoder: A :class:`ChatEncoder` or its config.
        root: Prefix of the paths in the annotation.
        max_tiles: Most tiles of a sample, for this data set alone (``max_dynamic_patch`` of meta files).
        augment: Degrade tiles by JPEG (``data_augment`` of meta files), the same for both answers.
        name: See :class:`GuardedDataset`.
        on_error: See :class:`GuardedDataset`.

    Raises:
        DataError: The annotation cannot be read.

    Source: the MMPR data set of InternVL2-MPO.
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
        self.encoder = built.variant(max_tiles=max_tiles, augment=augment)
        self._settings = (max_tiles, augment)
        self.annotation, self.root = annotation, root
        self.source = open_source(annotation)

    def __len__(self) -> int:
        return len(self.source)

    def load(self, index: SampleIndex) -> dict[str, Any]:
        """See :meth:`GuardedDataset.load`."""
        return self.load_row(int(index), index)

    def load_row(self, row: int, index: SampleIndex) -> dict[str, Any]:
        """Load a row with the random choices of another index: a mixture repeats rows, each time differently."""
        samples = []
        for talk in both_conversations(self.source[row]):
            # The same random choices for both: they share their tiles.
            with seeded(index.seed, index.epoch, index):
                sample = self.encoder(parse_record(talk, self.root))
            samples.append(replace(sample, dataset=self.name, index=row, path=self.path(row)))
        return dict(inputs=samples)  # chosen, rejected

    def path(self, index: int) -> str:
        """File and line."""
        return self.source.path(int(index))

    @property
    def metainfo(self) -> dict[str, Any]:
        """See :class:`GuardedDataset`."""
        return dict(name=self.name, encoder=getattr(self.encoder, 'facts', {}))

    def fingerprint(self) -> str:
        """See :class:`GuardedDataset`."""
        return hash_settings(
            dict(preferences=[self.annotation, self.root, len(self), *self._settings], name=self.name)
        )


@DATASETS.register_module()
class PreferenceMixture(MetaMixture):
    """:class:`MetaMixture` of preferences: index to the samples of the chosen and of the rejected answer.

    A ``repeat_time`` below 1 takes a random share, as the published MPO trainer does; conversations take the head.

    Args:
        args: See :class:`MetaMixture`.
        options: See :class:`MetaMixture`.
    """

    share_at_random = True

    def open_entry(self, entry: MetaEntry, encoder: Any) -> PreferenceDataset:
        """See :meth:`MetaMixture.open_entry`."""
        return PreferenceDataset(
            entry.annotation,
            encoder,
            root=entry.root,
            max_tiles=entry.max_dynamic_patch,
            augment=entry.data_augment,
            name=entry.name,
        )
