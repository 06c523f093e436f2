"""How similar a model finds pictures and texts: a matrix and nearest neighbours of a benchmark, for the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from internvl_mm.evaluation.metrics.retrieval import belonging
from internvl_mm.models.tasks.image_text import ZERO_SHOT_SCALE

SIMILARITY = 'similarity/similarity.json'  # the pictures are PNG files beside it


@dataclass(frozen=True)
class Match:
    """A picture beside a text.

    Attributes:
        picture: Key of the picture, see :func:`picture_key`.
        text: A caption or a class sentence.
        score: Their cosine.
        right: Whether they belong together.
    """

    picture: int
    text: str
    score: float
    right: bool


@dataclass(frozen=True)
class Similarity:
    """What the report shows of a benchmark.

    Attributes:
        benchmark: Its name in the config.
        kind: What its texts are, ``'caption'`` or ``'class sentence'``.
        pictures: Number of pictures compared.
        texts: Number of texts compared.
        matrix: A row per text, a column per picture; what belongs together meets on the diagonal.
        of_texts: For a few texts the nearest pictures, best first.
        of_pictures: For a few pictures the nearest texts, best first.
    """

    benchmark: str
    kind: str
    pictures: int
    texts: int
    matrix: list[list[Match]]
    of_texts: list[list[Match]]
    of_pictures: list[list[Match]]


@dataclass(frozen=True)
class Table:
    """Everything compared.

    Attributes:
        kind: See :class:`Similarity`.
        pictures: Keys of I pictures.
        texts: T different texts.
        scores: Cosines ``[I, T]``.
        right: What belongs together, bool ``[I, T]``.
    """

    kind: str
    pictures: list[int]
    texts: list[str]
    scores: Tensor
    right: Tensor

    def match(self, picture: int, text: int) -> Match:
        """One cell, by row and column."""
        score, right = self.scores[picture, text].item(), self.right[picture, text].item()
        return Match(self.pictures[picture], self.texts[text], score, bool(right))


def picture_key(sample: Any) -> int:
    """What tells the pictures of a benchmark apart: pairs with one picture share its ``image_id``."""
    return int(sample.get('image_id', sample.index))


def caption_table(samples: Sequence[Any]) -> Table:
    """Pictures against captions, each once.

    Args:
        samples: Pairs with ``caption``, ``pred_image`` and ``pred_text`` (unit vectors ``[E]``).
    """
    keys, captions = [picture_key(sample) for sample in samples], [sample.caption for sample in samples]
    rows, columns, right = belonging(keys, captions)
    # Any vector of a picture serves: the same pixels were encoded for each of its captions.
    images = {key: sample.pred_image for key, sample in zip(keys, samples)}
    texts = {sample.caption: sample.pred_text for sample in samples}
    # [pictures, captions]; cosines, because the vectors have length 1.
    scores = torch.stack([images[key] for key in rows]) @ torch.stack([texts[text] for text in columns]).t()
    return Table('caption', list(rows), list(columns), scores, right)


def class_table(samples: Sequence[Any], sentences: Sequence[str]) -> Table:
    """Pictures against classes.

    Args:
        samples: With ``pred_logits`` ``[C]``, and labels where they have any.
        sentences: One per class; a class of several sentences is compared by the mean of their vectors.
    """
    # Zero-shot scores are cosines times a constant.
    # [pictures, classes]
    scores = torch.stack([sample.pred_logits for sample in samples]) / ZERO_SHOT_SCALE
    right = torch.zeros_like(scores, dtype=torch.bool)
    for row, sample in zip(right, samples):
        labels = sample.get('gt_labels', sample.get('gt_label'))
        if labels is not None:
            # row is a view of `right`.
            row[labels] = True
    return Table(
        'class sentence', [picture_key(sample) for sample in samples], list(sentences), scores, right
    )


def compare(
    table: Table, benchmark: str, *, shown: int = 10, queries: int = 4, nearest: int = 5
) -> Similarity:
    """Choose what to show of a table.

    Args:
        table: Everything compared.
        benchmark: Its name.
        shown: Rows and columns of the matrix, at most: the first pictures whose texts differ.
        queries: Texts and pictures whose neighbours are shown: the first of these.
        nearest: Neighbours of each.
    """
    first = _first_of_each_text(table.right, shown)
    # By text: the digits of digit captions come in their order, others in an arbitrary one.
    ordered = sorted(first.items(), key=lambda pair: table.texts[pair[0]])
    asked = list(first.items())[:queries]
    return Similarity(
        benchmark=benchmark,
        kind=table.kind,
        pictures=len(table.pictures),
        texts=len(table.texts),
        # A row per text, a column per picture, in one order: what belongs together is the diagonal.
        matrix=[[table.match(picture, text) for _, picture in ordered] for text, _ in ordered],
        of_texts=[
            [table.match(picture, text) for picture in _best(table.scores[:, text], nearest)]
            for text, _ in asked
        ],
        of_pictures=[
            [table.match(picture, text) for text in _best(table.scores[picture], nearest)]
            for _, picture in asked
        ],
    )


def _first_of_each_text(right: Tensor, most: int) -> dict[int, int]:
    """Text to picture, different ones each, in the order of the pictures."""
    chosen: dict[int, int] = {}
    for picture, belongs in enumerate(right):
        new = [text for text in belongs.nonzero().flatten().tolist() if text not in chosen]
        if new and len(chosen) < most:
            # One text for each picture and one picture for each text, so that the matrix is square.
            chosen[new[0]] = picture
    return chosen


def _best(scores: Tensor, count: int) -> list[int]:
    return scores.topk(min(count, len(scores))).indices.tolist()


def write_similarity(folder: str | Path, found: Sequence[Similarity]) -> None:
    """Write into a run folder what :func:`read_similarity` reads; the pictures lie beside it."""
    path = Path(folder) / SIMILARITY
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(entry) for entry in found], ensure_ascii=False), 'utf-8')


def read_similarity(folder: str | Path) -> list[Similarity]:
    """What a run folder holds; empty when it has none."""
    path = Path(folder) / SIMILARITY
    if not path.is_file():
        return []
    lists = ('matrix', 'of_texts', 'of_pictures')
    return [
        Similarity(
            **entry | {name: [[Match(**match) for match in row] for row in entry[name]] for name in lists}
        )
        for entry in json.loads(path.read_text('utf-8'))
    ]
