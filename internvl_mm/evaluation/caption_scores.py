"""BLEU, ROUGE-L, CIDEr and CIDEr-D of captions, in plain Python.

Every function takes the words of n candidates, and for each of them the words of its references. Numbers are those of
``pycocoevalcap`` (whose "CIDEr" is CIDEr-D), which tests hold to 1e-6. It is not used itself: its package carries
100 MB of Java programs and has no plain CIDEr.

Shape letters: n images, r references of an image.
Source: Papineni et al. 2002 (BLEU); Lin 2004 (ROUGE); Vedantam et al. 2015, arXiv 1411.5726 (CIDEr, CIDEr-D).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Words = Sequence[str]
NGram = tuple[str, ...]
MAX_ORDER = 4  # of n-grams, in BLEU and CIDEr
ROUGE_BETA = 1.2  # recall weighs more than precision
CIDER_SIGMA = 6.0  # spread of the penalty on different lengths, in words
_TINY, _SMALL = 1e-15, 1e-9  # keep BLEU of no match at all defined; pycocoevalcap's


def count_ngrams(words: Words) -> Counter[NGram]:
    """How often each run of 1 to :data:`MAX_ORDER` words occurs."""
    runs = (
        tuple(words[start : start + order])
        for order in range(1, MAX_ORDER + 1)
        for start in range(len(words) - order + 1)
    )
    return Counter(runs)


def bleu(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """BLEU-1 to BLEU-4 of a whole set, between 0 and 1.

    Args:
        candidates: Words of n captions.
        references: For each the words of its references; the one of the nearest length counts for brevity.
    """
    matched, possible = [0] * MAX_ORDER, [0] * MAX_ORDER
    length = wanted = 0
    for candidate, group in zip(candidates, references, strict=True):
        length += len(candidate)
        # Of two equally near lengths the shorter.
        wanted += min((abs(len(words) - len(candidate)), len(words)) for words in group)[1]
        # The largest count in any one reference: more repetitions do not help.
        most: Counter[NGram] = Counter()
        for words in group:
            most |= count_ngrams(words)
        for run, count in count_ngrams(candidate).items():
            possible[len(run) - 1] += count
            matched[len(run) - 1] += min(count, most[run])
    # BLEU-n is the geometric mean of the precisions of orders 1 to n.
    product, scores = 1.0, []
    for order in range(MAX_ORDER):
        product *= (matched[order] + _TINY) / (possible[order] + _SMALL)
        scores.append(product ** (1 / (order + 1)))
    ratio = (length + _TINY) / (wanted + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    return [score * brevity for score in scores]


def longest_common(first: Words, second: Words) -> int:
    """Length of the longest common subsequence."""
    # One row of the table of prefixes at a time: row[j] belongs to the first j words of `second`.
    row = [0] * (len(second) + 1)
    for word in first:
        before, row = row, [0] * (len(second) + 1)
        for index, other in enumerate(second, start=1):
            row[index] = before[index - 1] + 1 if word == other else max(before[index], row[index - 1])
    return row[-1]


def rouge_l(candidate: Words, group: Sequence[Words]) -> float:
    """ROUGE-L of one caption, between 0 and 1.

    Args:
        candidate: Its words.
        group: Words of its references; best precision and best recall may come from different ones.
    """
    common = [longest_common(candidate, words) for words in group]
    # pycocoevalcap splits at spaces, so that even an empty text has one (empty) word.
    precision = max(shared / max(1, len(candidate)) for shared in common)
    # The best of each may come from different references, as in pycocoevalcap.
    recall = max(shared / max(1, len(words)) for shared, words in zip(common, group, strict=True))
    if not precision or not recall:
        return 0.0
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


@dataclass(frozen=True)
class _Vector:
    """Weighted n-grams of one sentence, by order."""

    weights: list[dict[NGram, float]]
    norms: list[float]
    length: int


class CiderScorer:
    """CIDEr and CIDEr-D of captions against references, with the rarity of n-grams among these references.

    Both say by how much captions agree on what is rare; 10 is full agreement (papers write 100 times this, or 1.2 for
    120). With one image nothing is rare, and everything scores 0.

    Args:
        references: For each of n images, the words of its r references.
    """

    def __init__(self, references: Sequence[Sequence[Words]]):
        grouped = [[count_ngrams(words) for words in group] for group in references]
        # In how many images an n-gram occurs, however often.
        self._images = Counter(run for group in grouped for run in set().union(*group))
        self._log_count = math.log(max(1, len(references)))
        self._references = [[self._vector(counts) for counts in group] for group in grouped]

    def _vector(self, counts: Counter[NGram]) -> _Vector:
        weights: list[dict[NGram, float]] = [{} for _ in range(MAX_ORDER)]
        for run, count in counts.items():
            # An n-gram of no reference is as rare as one of a single image.
            weights[len(run) - 1][run] = count * (self._log_count - math.log(max(1, self._images[run])))
        norms = [math.sqrt(sum(value * value for value in part.values())) for part in weights]
        # Lengths are told by their pairs of words, as in the published code.
        return _Vector(weights, norms, sum(count for run, count in counts.items() if len(run) == 2))

    def plain(self, candidates: Sequence[Words]) -> list[float]:
        """CIDEr of each of n captions: the mean cosine over orders and references, times 10."""
        return self._scores(candidates, clip=False)

    def robust(self, candidates: Sequence[Words]) -> list[float]:
        """CIDEr-D: repeated words do not count more than in the reference, and other lengths are penalised."""
        return self._scores(candidates, clip=True)

    def _scores(self, candidates: Sequence[Words], *, clip: bool) -> list[float]:
        scores = []
        for words, group in zip(candidates, self._references, strict=True):
            own = self._vector(count_ngrams(words))
            total = sum(_similarity(own, other, clip=clip) for other in group)
            # Times 10, as published.
            scores.append(10.0 * total / (MAX_ORDER * len(group)))
        return scores


def _similarity(own: _Vector, other: _Vector, *, clip: bool) -> float:
    """Sum over orders of the cosine of two sentences."""
    total = 0.0
    for mine, theirs, length, wanted in zip(own.weights, other.weights, own.norms, other.norms, strict=True):
        shared = (run for run in mine if run in theirs)
        product = sum((min(mine[run], theirs[run]) if clip else mine[run]) * theirs[run] for run in shared)
        total += product / (length * wanted) if length and wanted else product
    if clip:
        total *= math.exp(-((own.length - other.length) ** 2) / (2 * CIDER_SIGMA**2))
    return total
