"""The metric slot for numbers that are means over samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric

from internvl_mm.evaluation.figures import MetricFigure

SampleKey = tuple[str, int]
Scores = dict[str, float]


class SampleMetric(BaseMetric):
    """A mean over samples in which every sample of the data set counts exactly once.

    Results are kept under the sample's data set and index. The order of the samples, the number of processes, uneven
    shares and samples repeated by a padding sampler therefore do not change any number.

    A subclass says what each sample of a batch scores in :meth:`score`. Results carry ``n``, the number of samples
    that were scored.

    Args:
        prefix: Put before each name as ``prefix/``; needed when two metrics of a benchmark share names.

    Attributes:
        figures: What :meth:`compute_metrics` leaves for the report; of the first process only.
    """

    default_prefix = ''

    def __init__(self, prefix: str | None = None):
        super().__init__(prefix=prefix)
        self.figures: list[MetricFigure] = []

    def reported(self) -> tuple[str, ...] | None:
        """Names of the numbers this metric may give, without prefix; ``None`` where the data decide them.

        A run compares its ``save_best`` with them before it trains for hours.
        """
        return None

    @abstractmethod
    def score(self, samples: Sequence[dict[str, Any]]) -> list[Scores | None]:
        """Named numbers per sample, ``None`` for a sample that does not count."""

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Score one batch of predicted samples."""
        keys = [(sample['dataset'], sample['index']) for sample in data_samples]
        self.results.extend(zip(keys, self.score(data_samples), strict=True))

    def evaluate(self, size: int) -> dict[str, float]:
        """Gather the scores of all processes and average them; called on every process.

        Args:
            size: Length of the data set; samples that could not be read make ``n`` smaller.
        """
        # As dicts: an image that a padding sampler repeats is there once, within a process and after merging.
        shares = all_gather_object(dict(self.results))
        # The metric lives as long as the run: the next evaluation must not find these.
        self.results.clear()
        metrics: list[dict[str, float] | None] = [None]
        if is_main_process():
            metrics = [self._measured({key: scores for share in shares for key, scores in share.items()})]
        # All have to know: hooks decide by these numbers whether to save, which takes every process.
        broadcast_object_list(metrics)
        return metrics[0]

    def evaluate_here(self) -> dict[str, float]:
        """Average what this process scored, without waiting for others: for jobs that one process does for all."""
        merged = dict(self.results)
        self.results.clear()
        return self._measured(merged)

    def _measured(self, merged: dict[SampleKey, Scores | None]) -> dict[str, float]:
        return self._named(self.compute_metrics(list(merged.values())))

    def compute_metrics(self, results: list[Scores | None]) -> dict[str, float]:
        """Means of all scores, and ``n``."""
        scored = [scores for scores in results if scores is not None]
        if not scored:
            return dict(n=0)
        # Every sample scores the same names; ExactMatch, whose names differ, overrides this.
        means = {name: sum(scores[name] for scores in scored) / len(scored) for name in scored[0]}
        return dict(**means, n=len(scored))

    def _named(self, metrics: dict[str, float]) -> dict[str, float]:
        return {f'{self.prefix}/{name}' if self.prefix else name: value for name, value in metrics.items()}
