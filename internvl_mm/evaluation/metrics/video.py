"""Zero-shot numbers as papers about video report them."""

from __future__ import annotations

from typing import Any

import torch

from internvl_mm.registry import METRICS

from .base import Scores
from .retrieval import RetrievalRecall, ZeroShotAccuracy, recall_at


@METRICS.register_module()
class VideoAccuracy(ZeroShotAccuracy):
    """:class:`ZeroShotAccuracy`, and ``mean_top1_top5``, the mean of both, which papers about Kinetics report.

    What the number is not for: comparison with top-1, than which it is higher.

    Args:
        topk: See :class:`ZeroShotAccuracy`.
        prefix: See :class:`SampleMetric`.
    """

    def compute_metrics(self, results: list[Scores | None]) -> dict[str, float]:
        """See :class:`ZeroShotAccuracy`."""
        means = super().compute_metrics(results)
        if {'top1', 'top5'} <= means.keys():
            means['mean_top1_top5'] = (means['top1'] + means['top5']) / 2
        return means


@METRICS.register_module()
class DualSoftmaxRecall(RetrievalRecall):
    """Recall@k both ways after every score is weighted by how much the candidate prefers this query to the others.

    Scores S become S · softmax over queries of S, without temperature, for either direction on its own, as in the
    published script of MSR-VTT. What the number is not for: searching, where the other queries are not known.

    Args:
        topk: See :class:`RetrievalRecall`.
        prefix: See :class:`SampleMetric`.

    Source: Cheng et al. 2021, "Improving video-text retrieval by multi-stream corpus alignment and dual softmax loss".
    """

    def __init__(self, topk: tuple[int, ...] = (1, 5, 10), *, prefix: str | None = None):
        super().__init__(topk, prefix=prefix)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Recall@k both ways; the whole matrix is held at once (4 MB for the 1,000 videos of MSR-VTT 1k-A)."""
        if not results:
            return dict(n=0)
        image_of = {result['image_id']: result['image'] for result in results}
        text_of = {result['caption']: result['text'] for result in results}
        rows = {key: number for number, key in enumerate(image_of)}
        columns = {key: number for number, key in enumerate(text_of)}
        right = torch.zeros(len(rows), len(columns), dtype=torch.bool)
        for result in results:
            right[rows[result['image_id']], columns[result['caption']]] = True
        # [videos, texts], cosines.
        scores = torch.stack(list(image_of.values())) @ torch.stack(list(text_of.values())).t()
        named = {}
        for name, pairs, answers in (('i2t', scores, right), ('t2i', scores.t(), right.t())):
            weighted = pairs * pairs.softmax(dim=0)
            named |= {f'{name}_r{k}': value for k, value in recall_at(weighted, answers, self.topk).items()}
        return dict(**named, images=len(rows), texts=len(columns), n=len(results))
