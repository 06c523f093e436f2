"""Similarity of pictures and texts as the report's template wants it: thumbnails, shades of one colour."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from internvl_mm.evaluation.similarity import SIMILARITY, Match, Similarity, read_similarity

# Largest opacity of a cell's colour: above it the numbers no longer read, in the light page or in the dark one.
OPACITY = 0.6


@dataclass(frozen=True)
class SimilarityView:
    """A benchmark, ready to be drawn.

    Attributes:
        figure: What to draw.
        sources: Key of each picture to its data URI.
        shades: Opacity of each cell of the matrix, from 0 (least similar) to :data:`OPACITY`.
    """

    figure: Similarity
    sources: dict[int, str]
    shades: list[list[float]]


def similarity_views(folder: str | Path) -> list[SimilarityView]:
    """What a run folder holds, one view per benchmark."""
    views = []
    for figure in read_similarity(folder):
        matches = [match for rows in (figure.matrix, figure.of_texts) for row in rows for match in row]
        sources = {
            key: data_uri((Path(folder) / SIMILARITY).with_name(picture_file(figure.benchmark, key)))
            for key in {match.picture for match in matches}
        }
        views.append(SimilarityView(figure, sources, shades(figure.matrix)))
    return views


def shades(matrix: Sequence[Sequence[Match]]) -> list[list[float]]:
    """Opacities from the least to the largest similarity of a matrix; 0 where a similarity is not a number."""
    finite = [match.score for row in matrix for match in row if math.isfinite(match.score)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    width = high - low or 1.0  # all alike: nothing stands out
    return [
        [
            round(OPACITY * (match.score - low) / width, 3) if math.isfinite(match.score) else 0.0
            for match in row
        ]
        for row in matrix
    ]


def picture_file(benchmark: str, key: int) -> str:
    """Name of the PNG file of a picture."""
    return f'{re.sub("[^A-Za-z0-9_-]", "_", benchmark)}_{key:06d}.png'


def data_uri(picture: Path) -> str:
    """A PNG file as text, so that the page needs no other file."""
    return 'data:image/png;base64,' + base64.b64encode(picture.read_bytes()).decode('ascii')
