"""Predictions and targets to a number to minimise."""

from .classification import ClassificationLoss
from .contrastive import ContrastiveLoss, InfoNCELoss, SigmoidLoss, full_product

__all__ = ['ClassificationLoss', 'ContrastiveLoss', 'InfoNCELoss', 'SigmoidLoss', 'full_product']
