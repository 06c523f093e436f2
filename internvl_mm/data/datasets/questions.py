"""Questions about pictures with short answers, for evaluation by generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from internvl_mm.data.chat_records import IMAGE, VIDEO, check_text, parse_record
from internvl_mm.data.datasets.chat_sources import open_source
from internvl_mm.data.datasets.guarded import GuardedDataset, OnError
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.data.seeding import seeded
from internvl_mm.registry import DATASETS, TRANSFORMS
from internvl_mm.structures import ChatRecord, QuestionSample
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.hashing import hash_settings


@DATASETS.register_module()
class QuestionDataset(GuardedDataset):
    """One annotation of questions: index to a prompt and its right answers.

    A line has ``question``, ``answer`` (a text, or a list of equally right ones) and ``image`` or ``video`` in the
    published form; ``kind`` is kept for results by kind.

    Args:
        annotation: JSONL file, table or tar shards, see :func:`open_source`.
        encoder: A :class:`ChatEncoder` or its config.
        root: Prefix of the paths in the annotation.
        suffix: Text after each question, such as ``' Answer the question using a single word or phrase.'``.
        kinds: Keep questions of these kinds alone.
        length: Keep so many questions from the beginning.
        name: See :class:`GuardedDataset`.
        on_error: See :class:`GuardedDataset`.

    Raises:
        DataError: The annotation cannot be read, or no question is left.
    """

    def __init__(
        self,
        annotation: str,
        encoder: Callable[[ChatRecord], Any] | dict,
        *,
        root: str = '',
        suffix: str = '',
        kinds: tuple[str, ...] | None = None,
        length: int | None = None,
        name: str | None = None,
        on_error: OnError = 'fail',
    ):
        super().__init__(name=name, on_error=on_error)
        self.encoder: Any = TRANSFORMS.build(encoder) if isinstance(encoder, dict) else encoder
        self.annotation, self.root, self.suffix = annotation, root, suffix
        self.source = open_source(annotation)
        rows = range(len(self.source))
        # Lines are only parsed where kinds are asked for; length counts what is left of them.
        self._rows = [row for row in rows if kinds is None or self.source[row].get('kind') in kinds][:length]
        if not self._rows:
            raise DataError(
                f"annotation '{annotation}' has no question with kinds={kinds} and length={length}"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: SampleIndex) -> dict[str, Any]:
        """See :meth:`GuardedDataset.load`."""
        line = self.source[self._rows[index]]
        question, answers = self._texts(line)
        # A record ends in an answer; the prompt leaves it out, so that any of the right ones will do.
        record = parse_record({**line, 'conversations': _messages(line, question, answers[0])}, self.root)
        with seeded(0, 0, index):  # frames of videos: the same in every run
            prompt = self.encoder.prompt(record)
        facts = dict(dataset=self.name, index=int(index), path=self.path(index))
        asked = QuestionSample(
            metainfo=dict(facts, kind=str(line.get('kind', '')), question=question, answers=answers)
        )
        return dict(inputs=replace(prompt, **facts), data_samples=asked)

    def _texts(self, line: Mapping[str, Any]) -> tuple[str, list[str]]:
        question, answer = line.get('question'), line.get('answer')
        answers = [answer] if isinstance(answer, str) else answer
        right = isinstance(answers, list) and answers and all(isinstance(text, str) for text in answers)
        if not isinstance(question, str) or not right:
            raise DataError(
                'needs question, a text, and answer, a text or a list of texts; it has '
                f'{question!r:.80} and {answer!r:.80}'
            )
        for text in answers:
            check_text(text, 'an answer')
        return question + self.suffix, answers

    def path(self, index: int) -> str:
        """File and line."""
        return self.source.path(self._rows[int(index)])

    @property
    def metainfo(self) -> dict[str, Any]:
        """See :class:`GuardedDataset`."""
        return dict(name=self.name)

    def fingerprint(self) -> str:
        """See :class:`GuardedDataset`."""
        return hash_settings(
            dict(annotation=[self.annotation, self.root, self.suffix, self._rows], name=self.name)
        )


def _messages(line: Mapping[str, Any], question: str, answer: str) -> list[dict[str, str]]:
    """A conversation of one turn; pictures that the question does not place come first, numbered if several."""
    images = line.get('image') or []
    # A single one without a place is put first by parse_record, which also refuses what is neither.
    count = len(images) if isinstance(images, list) else 1
    if count > 1 and IMAGE not in question:
        question = ''.join(f'Image-{number}: {IMAGE}\n' for number in range(1, count + 1)) + question
    if line.get('video') and VIDEO not in question:
        question = f'{VIDEO}\n{question}'
    return [{'from': 'human', 'value': question}, {'from': 'gpt', 'value': answer}]
