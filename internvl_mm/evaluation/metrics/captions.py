"""Scores of generated captions against references."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from internvl_mm.evaluation.caption_scores import MAX_ORDER, CiderScorer, bleu, rouge_l
from internvl_mm.evaluation.caption_words import split_caption
from internvl_mm.evaluation.intervals import bootstrap_interval
from internvl_mm.registry import METRICS
from internvl_mm.utils.errors import ConfigError

from .base import SampleMetric, Scores


@METRICS.register_module()
class CaptionScores(SampleMetric):
    """CIDEr-D, CIDEr, BLEU-1 to BLEU-4 and ROUGE-L of captions, all times 100, and their mean number of words.

    The ends of the 95 % interval of CIDEr-D are ``cider_d_low`` and ``cider_d_high``.

    ``cider_d`` is what ``pycocoevalcap`` and the papers that use it call CIDEr, equal to 1e-6 on the same words; words
    come from :func:`~internvl_mm.evaluation.caption_words.split_caption` instead of Java. What the numbers are not for:
    single pictures (rarity of words is counted over the whole set), and truth (a caption that negates scores well).

    Args:
        prefix: See :class:`SampleMetric`.
    """

    def reported(self) -> tuple[str, ...] | None:
        """See :class:`SampleMetric`."""
        ciders = ('cider_d', 'cider_d_low', 'cider_d_high', 'cider')
        return (*ciders, *(f'bleu{order}' for order in range(1, MAX_ORDER + 1)), 'rouge_l', 'words', 'n')

    def score(self, samples: Sequence[dict[str, Any]]) -> list[Scores | None]:
        """See :class:`SampleMetric`; here the words themselves, which are compared at the end."""
        for sample in samples:
            if 'pred_caption' not in sample or not sample.get('references'):
                raise ConfigError(
                    f"images of '{sample['dataset']}' come without caption or without references: CaptionScores needs "
                    'GenerativePretraining and a data set of pictures to describe (CaptioningDataset)'
                )
        # Split here, in the process that generated them; compared at the end by one process.
        found: list[Any] = [
            dict(
                words=split_caption(sample['pred_caption']),
                references=[split_caption(text) for text in sample['references']],
            )
            for sample in samples
        ]
        return found

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """All scores of the set."""
        if not results:
            return dict(n=0)
        captions = [result['words'] for result in results]
        references = [result['references'] for result in results]
        cider = CiderScorer(references)
        robust = cider.robust(captions)
        # Pictures drawn anew; how rare words are stays as it is. [n, 2]: scores and pictures.
        counts = np.stack([robust, np.ones(len(robust))], axis=1)
        low, high = bootstrap_interval(counts, lambda sums: sums[:, 0] / sums[:, 1])
        named = dict(cider_d=fmean(robust), cider_d_low=low, cider_d_high=high)
        named['cider'] = fmean(cider.plain(captions))
        named |= {f'bleu{order}': value for order, value in enumerate(bleu(captions, references), start=1)}
        named['rouge_l'] = fmean(map(rouge_l, captions, references))
        # A count, not to be multiplied by 100 as the scores are.
        words = fmean(map(len, captions))
        return dict(**{name: 100.0 * value for name, value in named.items()}, words=words, n=len(results))
