"""What can be wrong with a machine before any run: one small check per question, each with a way out."""

from .findings import CHECKS, Finding, examine

__all__ = ['CHECKS', 'Finding', 'examine']
