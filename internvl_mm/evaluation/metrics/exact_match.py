"""Share of generated answers that are right word for word."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from internvl_mm.evaluation.intervals import wilson_interval
from internvl_mm.registry import METRICS

from .base import SampleMetric, Scores


def normalised(answer: str) -> str:
    """An answer without case, outer white space and final full stop, Western or Chinese."""
    # At the end alone: the full stop in 3.5 belongs to the answer.
    return ' '.join(answer.lower().split()).rstrip('.。').strip()


@METRICS.register_module()
class ExactMatch(SampleMetric):
    """Share of answers equal to one of the right ones, in percent: ``exact_match``, and ``exact_match_<kind>``.

    Case, white space and a final full stop do not count. What the number is not for: answers in sentences, or with
    numbers that may be a little off.

    Args:
        by_kind: Also give the share for each kind of question.
        prefix: See :class:`SampleMetric`.
    """

    # Fields of the samples: what was said, what is right, and of which kind it is.
    fields = ('pred_answer', 'answers', 'kind')

    def __init__(self, *, by_kind: bool = True, prefix: str | None = None):
        super().__init__(prefix)
        self.by_kind = by_kind

    def score(self, samples: Sequence[dict[str, Any]]) -> list[Scores | None]:
        """See :class:`SampleMetric`."""
        scores: list[Scores | None] = []
        said, true, kind = self.fields
        for sample in samples:
            right = normalised(sample[said]) in map(normalised, sample[true])
            names = ['exact_match']
            if self.by_kind and sample.get(kind):
                names.append(f'exact_match_{sample[kind]}')
            scores.append(dict.fromkeys(names, 100.0 * right))
        return scores

    def compute_metrics(self, results: list[Scores | None]) -> dict[str, float]:
        """Means and ``_low`` and ``_high`` of their 95 % intervals; those of kinds over the questions of the kind."""
        found: dict[str, list[float]] = defaultdict(list)
        for scores in results:
            for name, value in (scores or {}).items():
                found[name].append(value)
        shares: dict[str, float] = {}
        for name, values in sorted(found.items()):
            # Wilson's, as if questions were drawn one by one; several about one scene make it a little too narrow.
            low, high = wilson_interval(sum(values) / 100, len(values))
            shares |= {name: sum(values) / len(values), f'{name}_low': 100 * low, f'{name}_high': 100 * high}
        return dict(**shares, n=len(results))


@METRICS.register_module()
class CaptionExactMatch(ExactMatch):
    """Share of generated captions equal to one of the references, in percent, also for each language.

    What the number is not for: captions of photographs, which nobody words like a reference. It suits pictures whose
    true captions can all be listed, as those of DigitScenes.

    Args:
        by_kind: Also give the share for each language.
        prefix: See :class:`SampleMetric`.
    """

    fields = ('pred_caption', 'references', 'language')
