"""Zero-shot numbers as papers about video report them."""

from __future__ import annotations

from torch import Tensor

from internvl_mm.registry import METRICS

from .base import Scores
from .retrieval import RetrievalRecall, ZeroShotAccuracy, hits_at


@METRICS.register_module()
class VideoAccuracy(ZeroShotAccuracy):
    """:class:`ZeroShotAccuracy`, and ``mean_top1_top5``, the mean of both, which papers about Kinetics report.

    What the number is not for: comparison with top-1, than which it is higher.

    Args:
        topk: See :class:`ZeroShotAccuracy`.
        prefix: See :class:`SampleMetric`.
    """

    def reported(self) -> tuple[str, ...] | None:
        """See :class:`SampleMetric`."""
        return (*(super().reported() or ()), 'mean_top1_top5')

    def compute_metrics(self, results: list[Scores | None]) -> dict[str, float]:
        """See :class:`ZeroShotAccuracy`."""
        means = super().compute_metrics(results)
        # A data set of fewer than five classes has no top5.
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
        published: See :class:`RetrievalRecall`.
        prefix: See :class:`SampleMetric`.

    Source: Cheng et al. 2021, "Improving video-text retrieval by multi-stream corpus alignment and dual softmax loss".
    """

    def hits(self, queries: Tensor, candidates: Tensor, right: Tensor) -> dict[int, Tensor]:
        """See :class:`RetrievalRecall`; the whole matrix is held at once: 4 MB for the 1,000 videos of MSR-VTT 1k-A."""
        # [queries, candidates], cosines. The softmax runs down the queries: a candidate's preference among them.
        scores = queries @ candidates.t()
        return hits_at(scores * scores.softmax(dim=0), right, self.topk)
