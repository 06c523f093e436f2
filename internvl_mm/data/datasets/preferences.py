"""Questions with a better and a worse answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from internvl_mm.data.chat_records import parse_record
from internvl_mm.data.datasets.chat import ChatDataset
from internvl_mm.data.datasets.guarded import named
from internvl_mm.data.datasets.meta_mixture import MetaMixture
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.data.seeding import seeded
from internvl_mm.registry import DATASETS
from internvl_mm.structures import ChatRecord
from internvl_mm.utils.errors import DataError


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
class PreferenceDataset(ChatDataset):
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

    def record(self, row: int) -> ChatRecord:
        """What the annotation says about one sample, with the chosen answer.

        Raises:
            DataError: The sample is not what the format allows.
        """
        return self._records(row)[0]

    def _records(self, row: int) -> list[ChatRecord]:
        return [parse_record(talk, self.root) for talk in both_conversations(self.source[row])]

    def load_row(self, row: int, index: SampleIndex) -> dict[str, Any]:
        """See :meth:`ChatDataset.load_row`."""
        samples = []
        records = self._records(row)
        for record in records:
            # The same random choices for both: they share their tiles.
            with seeded(index.seed, index.epoch, index):
                sample = self.encoder(record, records)
            samples.append(replace(sample, dataset=self.name, index=row, path=self.path(row)))
        return dict(inputs=samples)  # chosen, rejected

    def measure(self, index: int) -> tuple[int, int]:
        """Tokens and tiles with the longer answer; see :meth:`ChatDataset.measure`."""
        try:
            return max(map(self.encoder.measure, self._records(index)))  # the tiles are the same
        except DataError as error:
            named(error, self.path(index))
            raise


@DATASETS.register_module()
class PreferenceMixture(MetaMixture):
    """:class:`MetaMixture` of preferences: index to the samples of the chosen and of the rejected answer.

    A ``repeat_time`` below 1 takes a random share, as the published MPO trainer does; conversations take the head.

    Args:
        args: See :class:`MetaMixture`.
        options: See :class:`MetaMixture`.
    """

    part = PreferenceDataset
    share_at_random = True
