"""Many runs that differ in a few settings: points, how Hydra launches them, and what they gave."""

from .points import Point, expand, resolve
from .table import SweepRow, collect, write_tables

__all__ = ['Point', 'SweepRow', 'collect', 'expand', 'resolve', 'write_tables']
