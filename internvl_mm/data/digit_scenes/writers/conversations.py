"""Conversations for training, in the JSONL form of InternVL with its meta file."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from internvl_mm.data.digit_scenes.dialogue import Question, pick, turn
from internvl_mm.data.digit_scenes.language import LANGUAGES
from internvl_mm.data.digit_scenes.phrases import SHORT_PROMPT
from internvl_mm.data.digit_scenes.writers.files import write_json, write_jsonl
from internvl_mm.data.digit_scenes.writers.talks import Talk

MAX_TURNS = 3


class Conversations:
    """Writes ``chat/<split>_<medium>_<language>.jsonl`` and ``chat/meta_<split>.json``.

    Paths in the meta file (``root``, ``annotation``) are relative to the meta file's own folder, so that the data set
    can be moved. ``chat/preference_<split>_<language>.jsonl`` holds a chosen and a rejected reply per picture, the form
    of preference optimisation; it is not in the meta file.

    Args:
        root: Root folder of the data set.
        split: ``train`` or ``test``.
        seed: Seed of the data set.
    """

    def __init__(self, root: Path, split: str, seed: int) -> None:
        self.root, self.split, self.seed = root, split, seed
        self.chats: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.preferences: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def add(self, talk: Talk) -> None:
        """Note a conversation of up to three exchanges in every language."""
        for language in LANGUAGES:
            # Anew for each language: equal states ask the same in both.
            rng = talk.rng(self.seed, self.split, 'chat')
            questions = talk.questions(rng, language)
            chosen = [questions[i] for i in rng.permutation(len(questions))[:MAX_TURNS]]
            exchanges = [turn(question, rng, language) for question in chosen]
            sample = {
                'id': talk.number,
                **talk.files,
                **talk.sizes,
                'conversations': as_messages(exchanges, talk.tag),
            }
            self.chats[f'{talk.medium}_{language}'].append(sample)
            if talk.medium == 'single':
                # Rejected answers are wrong short ones, which long kinds do not have.
                question = pick([question for question in questions if question.wrong], rng)
                self.preferences[language].append(
                    {'id': talk.number, **talk.files, **preference(question, rng, language)}
                )

    def close(self) -> dict[str, int]:
        """Write the files."""
        folder, meta = self.root / 'chat', {}
        for name, samples in self.chats.items():
            annotation = f'{self.split}_{name}.jsonl'
            write_jsonl(folder / annotation, samples)
            meta[f'digit_scenes_{name}'] = {
                # From chat/, where the meta file lies.
                'root': '..',
                'annotation': annotation,
                'data_augment': False,
                'repeat_time': 1,
                'length': len(samples),
            }
        write_json(folder / f'meta_{self.split}.json', meta, indent=2)
        for language, samples in self.preferences.items():
            write_jsonl(folder / f'preference_{self.split}_{language}.jsonl', samples)
        return {'conversations': sum(map(len, self.chats.values()))}


def as_messages(exchanges: list[tuple[str, str]], tag: str) -> list[dict[str, str]]:
    """Return alternating messages, the first one led by ``tag``."""
    messages = []
    for question, reply in exchanges:
        messages += [{'from': 'human', 'value': question}, {'from': 'gpt', 'value': reply}]
    messages[0]['value'] = tag + messages[0]['value']
    return messages


def preference(question: Question, rng: np.random.Generator, language: str) -> dict[str, str]:
    """Return the fields ``question``, ``chosen``, ``rejected`` of a preference sample."""
    prompt = f'{question.text} {SHORT_PROMPT[language]}'
    return {'question': prompt, 'chosen': question.answer, 'rejected': pick(question.wrong, rng)}
