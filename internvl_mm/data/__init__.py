"""Read: files to samples, samples to batches."""

from .collate import collate_samples
from .decode import ImageDecoder
from .ledger import Ledger
from .length_groups import LengthGroupedSampler
from .pipeline import Pipeline
from .samplers import EpochSampler, EvalSampler, SampleIndex, StreamSampler
from .seeding import seeded

__all__ = [
    'EpochSampler',
    'EvalSampler',
    'ImageDecoder',
    'Ledger',
    'LengthGroupedSampler',
    'Pipeline',
    'SampleIndex',
    'StreamSampler',
    'collate_samples',
    'seeded',
]
