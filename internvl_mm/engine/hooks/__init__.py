"""What happens around steps: progress, speed, checks, averages, checkpoints, the report."""

from .answer_pictures import AnswerPicturesHook
from .bad_samples import BadSampleHook
from .checkpoint import CheckpointHook
from .ema import EMAHook
from .frozen_check import FrozenCheckHook
from .hang_watch import HangWatchHook
from .non_finite import NonFiniteHook, NonFiniteLossError
from .progress import ProgressHook
from .report import ReportHook
from .resolution import ResolutionSchedule
from .sample_pictures import SamplePicturesHook
from .show_predictions import ShowPredictionsHook
from .similarity_pictures import SimilarityPicturesHook
from .stop_signals import StopSignalHook
from .throughput import ThroughputHook

__all__ = [
    'AnswerPicturesHook',
    'BadSampleHook',
    'CheckpointHook',
    'EMAHook',
    'FrozenCheckHook',
    'HangWatchHook',
    'NonFiniteHook',
    'NonFiniteLossError',
    'ProgressHook',
    'ReportHook',
    'ResolutionSchedule',
    'SamplePicturesHook',
    'ShowPredictionsHook',
    'SimilarityPicturesHook',
    'StopSignalHook',
    'ThroughputHook',
]
