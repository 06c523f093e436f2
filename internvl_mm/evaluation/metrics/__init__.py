"""Stream of predictions to a dict of numbers."""

from .accuracy import Accuracy, ReaLAccuracy
from .base import SampleMetric
from .captions import CaptionScores
from .exact_match import CaptionExactMatch, ExactMatch
from .java_captions import JavaCaptionScores
from .retrieval import RetrievalRecall, ZeroShotAccuracy
from .segmentation import MeanIoU
from .video import DualSoftmaxRecall, VideoAccuracy

__all__ = [
    'Accuracy',
    'CaptionExactMatch',
    'CaptionScores',
    'DualSoftmaxRecall',
    'ExactMatch',
    'JavaCaptionScores',
    'MeanIoU',
    'ReaLAccuracy',
    'RetrievalRecall',
    'SampleMetric',
    'VideoAccuracy',
    'ZeroShotAccuracy',
]
