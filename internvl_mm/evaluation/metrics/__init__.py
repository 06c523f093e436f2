"""Stream of predictions to a dict of numbers."""

from .accuracy import Accuracy, ReaLAccuracy
from .base import SampleMetric
from .exact_match import ExactMatch
from .retrieval import RetrievalRecall, ZeroShotAccuracy
from .segmentation import MeanIoU

__all__ = [
    'Accuracy',
    'ExactMatch',
    'MeanIoU',
    'ReaLAccuracy',
    'RetrievalRecall',
    'SampleMetric',
    'ZeroShotAccuracy',
]
