"""Trained models at work: pictures in, results out."""

from .inferencer import Inferencer, find_images

__all__ = ['Inferencer', 'find_images']
