"""METEOR and SPICE, which are Java programs, through pycocoevalcap."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Sequence
from typing import Any, Literal

from internvl_mm.registry import METRICS
from internvl_mm.utils.errors import ConfigError, did_you_mean

from .captions import CaptionScores

# Metric to module and class of pycocoevalcap.
_SCORERS = dict(
    meteor=('pycocoevalcap.meteor.meteor', 'Meteor'), spice=('pycocoevalcap.spice.spice', 'Spice')
)


@METRICS.register_module()
class JavaCaptionScores(CaptionScores):
    """METEOR and SPICE of captions beside the scores of :class:`CaptionScores`, all times 100.

    Words are those of :class:`CaptionScores`, not the Java tokeniser's. SPICE downloads a parser of 400 MB when it runs
    for the first time. What the numbers are not for: see :class:`CaptionScores`.

    Args:
        scores: Which of ``'meteor'`` and ``'spice'``.
        prefix: See :class:`CaptionScores`.

    Raises:
        ConfigError: An unknown score, or Java or pycocoevalcap is not installed.
    """

    def __init__(
        self, scores: Sequence[Literal['meteor', 'spice']] = ('meteor',), *, prefix: str | None = None
    ):
        super().__init__(prefix=prefix)
        for name in scores:
            if name not in _SCORERS:
                raise ConfigError(
                    f"scores={tuple(scores)}: use 'meteor' and 'spice'.{did_you_mean(name, _SCORERS)}"
                )
        # Before any work: a run of hours must not end here.
        if scores and shutil.which('java') is None:
            raise ConfigError(
                f'{" and ".join(scores)} are Java programs, and there is no `java`: install a Java runtime, '
                'or take CaptionScores, which needs none'
            )
        try:
            self._scorers = {
                name: getattr(importlib.import_module(module), kind)
                for name, (module, kind) in _SCORERS.items()
                if name in scores
            }
        except ImportError as error:
            raise ConfigError(
                f'{" and ".join(scores)} need pycocoevalcap ({error}): pip install "internvl_mm[captions]"'
            ) from error

    def reported(self) -> tuple[str, ...] | None:
        """See :class:`SampleMetric`."""
        return (*(super().reported() or ()), *self._scorers)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """All scores of the set."""
        found = super().compute_metrics(results)
        if not results:
            return found
        # Both programs take sentences; the words are joined again.
        said = {number: [' '.join(result['words'])] for number, result in enumerate(results)}
        truth = {
            number: [' '.join(words) for words in result['references']]
            for number, result in enumerate(results)
        }
        for name, kind in self._scorers.items():
            # The score of the set; beside it come those of each picture.
            found[name] = 100.0 * float(kind().compute_score(truth, said)[0])
        return found
