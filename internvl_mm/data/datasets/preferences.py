"""Questions with a better and a worse answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from internvl_mm.data.chat_records import parse_record
from internvl_mm.data.datasets.chat_sources import open_source
from internvl_mm.data.datasets.guarded import GuardedDataset, OnError
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.data.seeding import seeded
from internvl_mm.registry import DATASETS, TRANSFORMS
from internvl_mm.structures import ChatRecord
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.hashing import hash_settings


@DATASETS.register_module()
class PreferenceDataset(GuardedDataset):
    """One annotation of preferences: index to the samples of the chosen and of the rejected answer.

    A line has ``question``, ``chosen``, ``rejected`` (texts) and ``image`` or ``video`` in the published form.
    ``dataset[index]`` is ``dict(inputs=[chosen, rejected])``; :func:`collate_preferences` makes batches.

    Args:
        annotation: JSONL file, table or tar shards, see :func:`open_source`.
        encoder: A :class:`ChatEncoder` or its config.
        root: Prefix of the paths in the annotation.
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
        name: str | None = None,
        on_error: OnError = 'fail',
    ):
        super().__init__(name=name, on_error=on_error)
        self.encoder: Any = TRANSFORMS.build(encoder) if isinstance(encoder, dict) else encoder
        self.annotation, self.root = annotation, root
        self.source = open_source(annotation)

    def __len__(self) -> int:
        return len(self.source)

    def load(self, index: SampleIndex) -> dict[str, Any]:
        """See :meth:`GuardedDataset.load`."""
        line = self.source[index]
        texts = [line.get(field) for field in ('question', 'chosen', 'rejected')]
        if not all(isinstance(text, str) for text in texts):
            raise DataError(f'needs question, chosen and rejected as texts; it has {texts!r:.160}')
        question, *answers = texts  # chosen, rejected
        samples = []
        for answer in answers:
            talk = [{'from': 'human', 'value': question}, {'from': 'gpt', 'value': answer}]
            # The same random choices for both: they share their tiles.
            with seeded(index.seed, index.epoch, index):
                sample = self.encoder(parse_record({**line, 'conversations': talk}, self.root))
            samples.append(replace(sample, dataset=self.name, index=int(index), path=self.path(index)))
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
        return hash_settings(dict(preferences=[self.annotation, self.root, len(self)], name=self.name))
