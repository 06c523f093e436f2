"""Stream of predictions to a dict of numbers."""

from .accuracy import Accuracy, ReaLAccuracy
from .base import SampleMetric

__all__ = ['Accuracy', 'ReaLAccuracy', 'SampleMetric']
