"""Predictions and targets to a number to minimise."""

from .classification import ClassificationLoss

__all__ = ['ClassificationLoss']
