"""Read: files to samples, samples to batches."""

from .collate import collate_samples
from .collate_chat import collate_chat, collate_packed
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
    'collate_chat',
    'collate_packed',
    'collate_samples',
    'seeded',
]
