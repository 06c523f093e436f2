"""Stream of predictions to a dict of numbers."""

from .accuracy import Accuracy, ReaLAccuracy
from .base import SampleMetric
from .segmentation import MeanIoU

__all__ = ['Accuracy', 'MeanIoU', 'ReaLAccuracy', 'SampleMetric']
