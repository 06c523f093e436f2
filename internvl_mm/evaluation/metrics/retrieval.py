"""Retrieval from images to texts and back, and zero-shot accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from internvl_mm.evaluation.intervals import bootstrap_interval, wilson_interval
from internvl_mm.registry import METRICS
from internvl_mm.utils.errors import ConfigError, DataError

from .accuracy import Accuracy
from .base import SampleMetric, Scores

CHUNK = 1024  # queries ranked at a time
Text = TypeVar('Text')


def hits_at(scores: Tensor, right: Tensor, topk: Sequence[int]) -> dict[int, Tensor]:
    """Per k, whether a right answer is among the k best of each query, bool ``[queries]``.

    Args:
        scores: ``[queries, candidates]``.
        right: bool, alike.
        topk: Which k; larger ones than there are candidates count all of them.
    """
    ranked = scores.topk(min(max(topk), scores.shape[1]), dim=1).indices
    # [queries, max k], in the order of the ranks.
    hits = right.gather(1, ranked)
    return {k: hits[:, :k].any(dim=1) for k in topk}


def belonging(images: Sequence[int], texts: Sequence[Text]) -> tuple[dict[int, int], dict[Text, int], Tensor]:
    """What belongs together among pairs, whose pictures and texts may come several times.

    Args:
        images: Number of the picture of each pair.
        texts: Its text, or what else tells texts apart.

    Returns:
        Row of each picture, column of each text, both in the order of their first pair, and bool ``[I, T]``.
    """
    rows = {key: number for number, key in enumerate(dict.fromkeys(images))}
    columns = {key: number for number, key in enumerate(dict.fromkeys(texts))}
    # A byte per pair: 125 MB for COCO's 5,000 pictures and 25,000 captions.
    right = torch.zeros(len(rows), len(columns), dtype=torch.bool)
    for image, text in zip(images, texts, strict=True):
        right[rows[image], columns[text]] = True
    return rows, columns, right


@METRICS.register_module()
class RetrievalRecall(SampleMetric):
    """Recall@k both ways over a whole set, by cosine, without temperature and without re-ranking, as published.

    Samples are (image, caption) pairs; pairs with one ``image_id`` are one image, and equal captions are one text,
    which is right for all its images. Numbers carry ``n`` (pairs), ``images`` and ``texts``, and the ends of their 95 %
    interval as ``<name>_low`` and ``<name>_high``: of image to text Wilson's, of text to image from images drawn anew
    with all their captions, since captions of an image are not independent.

    Args:
        topk: Which k to report. ``i2t_r1`` is image to text (published ``text_retrieval_recall@1``), ``t2i_r1`` text to
            image (``image_retrieval_recall@1``).
        published: Count every caption as a text of its own, which is right for its own image alone. An equal caption
            of another image is then a mistake, so that the published numbers are the same or slightly lower.
        prefix: See :class:`SampleMetric`.

    Source: ``clip_benchmark`` zero-shot retrieval.
    """

    def __init__(
        self, topk: tuple[int, ...] = (1, 5, 10), *, published: bool = False, prefix: str | None = None
    ):
        super().__init__(prefix=prefix)
        if not topk or min(topk) < 1:
            raise ConfigError(f'topk={topk}: give whole numbers from 1')
        self.topk, self.published = topk, published

    def reported(self) -> tuple[str, ...] | None:
        """See :class:`SampleMetric`."""
        recalls = [f'{way}_r{k}' for way in ('i2t', 't2i') for k in self.topk]
        ends = [f'{name}_{end}' for name in recalls for end in ('low', 'high')]
        return (*recalls, *ends, 'images', 'texts', 'n')

    def score(self, samples: Sequence[dict[str, Any]]) -> list[Scores | None]:
        """See :class:`SampleMetric`; here the vectors themselves, which are compared at the end."""
        for sample in samples:
            if 'pred_image' not in sample or 'pred_text' not in sample:
                raise ConfigError(
                    f"images of '{sample['dataset']}' come without embeddings of image and caption: RetrievalRecall "
                    'needs an image–text task and a data set with captions'
                )
            # Sorted first, NaN would even count as right where it stands at the answer.
            if sample['pred_image'].isnan().any() or sample['pred_text'].isnan().any():
                raise DataError(
                    f"the embeddings of pair {sample['index']} of '{sample['dataset']}' are not numbers (NaN): the "
                    "weights are broken, or the precision is too small for them; try precision='bf16' or 'fp32' of "
                    'the strategy'
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
        names = [number if self.published else result['caption'] for number, result in enumerate(results)]
        text_of = {name: result['text'] for name, result in zip(names, results, strict=True)}
        # [I, E] and [T, E] of length 1.
        images, texts = torch.stack(list(image_of.values())), torch.stack(list(text_of.values()))
        # Rows and columns in the order of the dicts above.
        _, _, right = belonging([result['image_id'] for result in results], names)
        # Each text belongs to the first of its images, with which it is drawn.
        owner = right.int().argmax(dim=0)  # [T]
        named: dict[str, float] = {}
        for k, hits in self.hits(images, texts, right).items():
            named |= _share(f'i2t_r{k}', hits, torch.arange(len(images)))
        for k, hits in self.hits(texts, images, right.t()).items():
            named |= _share(f't2i_r{k}', hits, owner)
        return dict(**named, images=len(images), texts=len(texts), n=len(results))

    def hits(self, queries: Tensor, candidates: Tensor, right: Tensor) -> dict[int, Tensor]:
        """Per k, whether each query has a right answer among its k best, bool ``[queries]``.

        Args:
            queries: Unit vectors ``[queries, E]``.
            candidates: Unit vectors ``[candidates, E]``.
            right: What belongs together, bool ``[queries, candidates]``.
        """
        found: dict[int, list[Tensor]] = {k: [] for k in self.topk}
        # Scores of a chunk against COCO's captions, [1024, 25000] in fp32, take 100 MB.
        for start in range(0, len(queries), CHUNK):
            piece = slice(start, start + CHUNK)
            for k, hits in hits_at(queries[piece] @ candidates.t(), right[piece], self.topk).items():
                found[k].append(hits)
        return {k: torch.cat(hits) for k, hits in found.items()}


def _share(name: str, hits: Tensor, owner: Tensor) -> dict[str, float]:
    """Share of hits in percent and its interval, when the images that own the queries are drawn anew."""
    images = len(owner.unique())
    if images == len(hits) or hits.all() or not hits.any():
        # Independent hits; or all alike, where drawing anew would change nothing and promise certainty.
        low, high = wilson_interval(images * float(hits.float().mean()), images)
    else:
        # [images, 2]: hits and queries of each image.
        counts = np.zeros((int(owner.max()) + 1, 2))
        np.add.at(counts, owner.numpy(), np.stack([hits.numpy(), np.ones(len(hits))], axis=1))
        low, high = bootstrap_interval(counts, lambda sums: sums[:, 0] / sums[:, 1])
    share = float(hits.float().mean())
    return {name: 100 * share, f'{name}_low': 100 * low, f'{name}_high': 100 * high}


@METRICS.register_module()
class ZeroShotAccuracy(Accuracy):
    """Accuracy of class scores from names alone, and its mean over classes, in percent.

    Args:
        topk: Which k to report, 1 among them; those above the number of classes are left out, where ``clip_benchmark``
            gives NaN.
        prefix: See :class:`SampleMetric`.

    Raises:
        ConfigError: ``topk`` lacks 1.
    """

    def __init__(self, topk: tuple[int, ...] = (1, 5), *, prefix: str | None = None):
        super().__init__(topk, prefix=prefix)
        if 1 not in topk:
            raise ConfigError(f'topk={topk} lacks 1, of which the mean over classes is taken: add it')

    def reported(self) -> tuple[str, ...] | None:
        """See :class:`SampleMetric`."""
        return (
            *(f'top{k}' for k in self.topk),
            *('loss', 'n', 'mean_per_class', 'mean_per_class_low', 'mean_per_class_high'),
        )

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
        """Means over images, and ``mean_per_class``, of top-1 over classes, with the ends of its interval."""
        per_class: dict[float, list[float]] = {}
        for scores in results:
            if scores is not None:
                per_class.setdefault(scores['label'], []).append(scores['top1'])
        plain = [
            {name: value for name, value in scores.items() if name != 'label'} for scores in results if scores
        ]
        means = super().compute_metrics(plain)
        if per_class:
            # clip_benchmark's mean_per_class_recall: rare classes weigh as much as frequent ones.
            shares = [sum(hits) / len(hits) for hits in per_class.values()]
            centre = sum(shares) / len(shares)
            half = _half_width(list(per_class.values()))
            ends = dict(
                mean_per_class_low=max(0.0, centre - half), mean_per_class_high=min(100.0, centre + half)
            )
            means |= dict(mean_per_class=centre, **ends)
        return means


def _half_width(per_class: list[list[float]], confidence: float = 0.95) -> float:
    """Half the interval of a mean of shares, in percent: classes are fixed, the images of each are drawn anew."""
    variance = 0.0
    for hits in per_class:
        # Two hits and two misses more (Agresti and Coull 1998): 0 and 100 % of few images are not certain.
        total = len(hits) + 4
        share = (sum(hits) / 100 + 2) / total
        variance += share * (1 - share) / total
    return 100 * NormalDist().inv_cdf((1 + confidence) / 2) * sqrt(variance) / len(per_class)
