"""Features of a backbone to what a head eats."""

from .base import BaseNeck, PoolingNeck, PyramidNeck
from .multi_scale import BackboneMaps, MultiScaleNeck, SimpleFeaturePyramid
from .pooling import (
    AttentionPooling,
    ClipProjector,
    ClsPatchConcat,
    ClsPatchProjector,
    ClsToken,
    MeanPatch,
)

__all__ = [
    'AttentionPooling',
    'BackboneMaps',
    'BaseNeck',
    'ClipProjector',
    'ClsPatchConcat',
    'ClsPatchProjector',
    'ClsToken',
    'MeanPatch',
    'MultiScaleNeck',
    'PoolingNeck',
    'PyramidNeck',
    'SimpleFeaturePyramid',
]
