"""Questions with one right answer, for evaluation."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from internvl_mm.data.digit_scenes.dialogue import LONG_KINDS, options_of, pick
from internvl_mm.data.digit_scenes.language import LANGUAGES, name
from internvl_mm.data.digit_scenes.writers.files import write_jsonl
from internvl_mm.data.digit_scenes.writers.talks import Talk


class Questions:
    """Writes ``vqa/<split>_<set>_<language>.jsonl``; files are named relative to the root of the data set.

    - ``single``, ``pair``, ``video``, ``text``: ``question_id, image | video, question, answer, kind``. Questions carry
      no prompt suffix: an evaluation adds its own.
    - ``choice``: the same with ``options``; ``answer`` is the letter. One question per scene.
    - ``grounding``: ``image, width, height, sent, bbox`` with (x1, y1, x2, y2) in pixels, as RefCOCO is read. One line
      per digit.

    Args:
        root: Root folder of the data set.
        split: ``train`` or ``test``.
        seed: Seed of the data set.
    """

    def __init__(self, root: Path, split: str, seed: int) -> None:
        self.root, self.split, self.seed = root, split, seed
        self.rows: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def add(self, talk: Talk) -> None:
        """Note a talk's questions in every language."""
        for language in LANGUAGES:
            # A generator of their own: what is trained on leaves what is asked as it is.
            rng = talk.rng(self.seed, self.split, 'questions')
            short = [
                question for question in talk.questions(rng, language) if question.kind not in LONG_KINDS
            ]
            for question in short:
                row = {'question': question.text, 'answer': question.answer, 'kind': question.kind}
                self._note(f'{talk.medium}_{language}', {**talk.files, **row})
            if talk.medium == 'single':
                question = pick(short, rng)
                options, letter = options_of(question, rng)
                choice = {
                    'question': question.text,
                    'options': options,
                    'answer': letter,
                    'kind': question.kind,
                }
                self._note(f'choice_{language}', {**talk.files, **choice})
                for digit in talk.subject.digits:
                    # corners in pixels
                    phrase = {'sent': getattr(name(digit), language), 'bbox': list(digit.box)}
                    self._note(f'grounding_{language}', {**talk.files, **talk.sizes, **phrase})

    def close(self) -> dict[str, int]:
        """Write the files."""
        for file_key, rows in self.rows.items():
            write_jsonl(self.root / 'vqa' / f'{self.split}_{file_key}.jsonl', rows)
        return {'questions': sum(map(len, self.rows.values()))}

    def _note(self, file_key: str, row: dict[str, Any]) -> None:
        rows = self.rows[file_key]
        rows.append({'question_id': len(rows), **row})  # from 0 in every file
