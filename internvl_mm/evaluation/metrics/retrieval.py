"""Retrieval from images to texts and back, and zero-shot accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from internvl_mm.registry import METRICS
from internvl_mm.utils.errors import ConfigError

from .accuracy import Accuracy
from .base import SampleMetric, Scores

CHUNK = 1024  # queries ranked at a time


def recall_at(scores: Tensor, right: Tensor, topk: Sequence[int]) -> dict[int, float]:
    """Share of queries with a right answer among their k best, in percent.

    Args:
        scores: ``[queries, candidates]``.
        right: bool, alike.
        topk: Which k; larger ones than there are candidates count all of them.
    """
    ranked = scores.topk(min(max(topk), scores.shape[1]), dim=1).indices
    # [queries, max k], in the order of the ranks.
    hits = right.gather(1, ranked)
    return {k: 100.0 * float(hits[:, :k].any(dim=1).float().mean()) for k in topk}


@METRICS.register_module()
class RetrievalRecall(SampleMetric):
    """Recall@k both ways over a whole set, by cosine, without temperature and without re-ranking, as published.

    Samples are (image, caption) pairs; pairs with one ``image_id`` are one image, and equal captions are one text,
    which is right for all its images. Numbers carry ``n`` (pairs), ``images`` and ``texts``.

    Args:
        topk: Which k to report. ``i2t_r1`` is image to text (published ``text_retrieval_recall@1``), ``t2i_r1`` text to
            image (``image_retrieval_recall@1``).
        prefix: See :class:`SampleMetric`.

    Source: ``clip_benchmark`` zero-shot retrieval.
    """

    def __init__(self, topk: tuple[int, ...] = (1, 5, 10), *, prefix: str | None = None):
        super().__init__(prefix=prefix)
        if not topk or min(topk) < 1:
            raise ConfigError(f'topk={topk}: give whole numbers from 1')
        self.topk = topk

    def score(self, samples: Sequence[dict[str, Any]]) -> list[Scores | None]:
        """See :class:`SampleMetric`; here the vectors themselves, which are compared at the end."""
        for sample in samples:
            if 'pred_image' not in sample or 'pred_text' not in sample:
                raise ConfigError(
                    f"images of '{sample['dataset']}' come without embeddings of image and caption: RetrievalRecall "
                    'needs an image–text task and a data set with captions'
                )
        return [
            dict(
                image=sample['pred_image'].float().cpu(),
                text=sample['pred_text'].float().cpu(),
                image_id=sample['image_id'],
                caption=sample['caption'],
            )
            for sample in samples
        ]

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Recall@k both ways."""
        if not results:
            return dict(n=0)
        # A picture comes once for each of its captions (five in COCO and Flickr30K); one vector stays.
        image_of = {result['image_id']: result['image'] for result in results}
        text_of = {result['caption']: result['text'] for result in results}
        images, texts = torch.stack(list(image_of.values())), torch.stack(list(text_of.values()))
        rows = {key: number for number, key in enumerate(image_of)}
        columns = {key: number for number, key in enumerate(text_of)}
        # A byte per pair: 125 MB for COCO's 5,000 pictures and 25,000 captions.
        right = torch.zeros(len(images), len(texts), dtype=torch.bool)
        for result in results:
            right[rows[result['image_id']], columns[result['caption']]] = True
        named: dict[str, float] = {}
        for name, queries, candidates, answers in (
            ('i2t', images, texts, right),
            ('t2i', texts, images, right.t()),
        ):
            sums = dict.fromkeys(self.topk, 0.0)
            # Scores of a chunk against COCO's captions, [1024, 25000] in fp32, take 100 MB.
            for start in range(0, len(queries), CHUNK):
                piece = slice(start, start + CHUNK)
                found = recall_at(queries[piece] @ candidates.t(), answers[piece], self.topk)
                for k, value in found.items():
                    # The last chunk may be smaller: shares weigh as much as they have queries.
                    sums[k] += value * len(queries[piece])
            named |= {f'{name}_r{k}': value / len(queries) for k, value in sums.items()}
        return dict(**named, images=len(images), texts=len(texts), n=len(results))


@METRICS.register_module()
class ZeroShotAccuracy(Accuracy):
    """Accuracy of class scores from names alone, and its mean over classes, in percent.

    Args:
        topk: Which k to report; those above the number of classes are left out, where ``clip_benchmark`` gives NaN.
        prefix: See :class:`SampleMetric`.
    """

    def __init__(self, topk: tuple[int, ...] = (1, 5), *, prefix: str | None = None):
        super().__init__(topk, prefix=prefix)

    def score(self, samples: Sequence[dict[str, Any]]) -> list[Scores | None]:
        """See :class:`SampleMetric`."""
        bare = [sample for sample in samples if 'pred_logits' not in sample]
        if bare:
            raise ConfigError(
                f"images of '{bare[0]['dataset']}' have no zero-shot scores: name the data set in model.class_prompts"
            )
        classes = len(samples[0]['pred_logits'])
        # Before the parent's score, which refuses a k above the number of classes.
        self.topk = tuple(k for k in self.topk if k <= classes)
        scores = super().score(samples)
        labels = [int(sample['gt_label']) for sample in samples]
        return [
            dict(found, label=label) for found, label in zip(scores, labels, strict=True) if found is not None
        ]

    def compute_metrics(self, results: list[Scores | None]) -> dict[str, float]:
        """Means over images, and ``mean_per_class``, of top-1 over classes."""
        per_class: dict[float, list[float]] = {}
        for scores in results:
            if scores is not None:
                per_class.setdefault(scores['label'], []).append(scores[f'top{self.topk[0]}'])
        plain = [
            {name: value for name, value in scores.items() if name != 'label'} for scores in results if scores
        ]
        means = super().compute_metrics(plain)
        if per_class:
            # clip_benchmark's mean_per_class_recall: rare classes weigh as much as frequent ones.
            means['mean_per_class'] = sum(sum(hits) / len(hits) for hits in per_class.values()) / len(
                per_class
            )
        return means
