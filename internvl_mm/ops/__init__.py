"""What mmdet, mmseg and ViT-Adapter use of ``mmcv.ops``, on torch and torchvision: no compiler is needed.

Importing this package lets ``import mmdet`` and ``import mmseg`` work where mmcv has no compiled operators
(:func:`install`); import it before them. :func:`backend` tells whose operators ``mmcv.ops`` runs on.

The adapters' attention is :class:`MultiScaleDeformableAttention` ``(embed_dims, num_heads, num_levels, num_points,
ratio=1.0)``, called with ``(query, reference_points, value, spatial_shapes, level_start_index, padding_mask)``.

The functions below are ours. The modules around them (``RoIAlign``, ``DeformConv2dPack``, ``SigmoidFocalLoss`` …) are
mmcv's own Python, and can be imported from here as well.
"""

from typing import Any

from .convolution import deform_conv2d, masked_conv2d, modulated_deform_conv2d
from .deformable_attention import (
    MultiScaleDeformableAttention,
    multi_scale_deformable_attn,
    multi_scale_deformable_attn_pytorch,
)
from .focal import sigmoid_focal_loss, softmax_focal_loss
from .nms import batched_nms, nms, soft_nms
from .points import SimpleRoIAlign, point_sample, rel_roi_point_to_rel_img_point
from .roi import roi_align, roi_pool
from .stand_in import backend, install

_OF_MMCV = frozenset(
    {
        'DeformConv2d',
        'DeformConv2dPack',
        'MaskedConv2d',
        'ModulatedDeformConv2d',
        'ModulatedDeformConv2dPack',
        'RoIAlign',
        'RoIPool',
        'SigmoidFocalLoss',
        'SoftmaxFocalLoss',
    }
)

__all__ = [
    'MultiScaleDeformableAttention',
    'SimpleRoIAlign',
    'backend',
    'batched_nms',
    'deform_conv2d',
    'install',
    'masked_conv2d',
    'modulated_deform_conv2d',
    'multi_scale_deformable_attn',
    'multi_scale_deformable_attn_pytorch',
    'nms',
    'point_sample',
    'rel_roi_point_to_rel_img_point',
    'roi_align',
    'roi_pool',
    'sigmoid_focal_loss',
    'soft_nms',
    'softmax_focal_loss',
]

# At import, not at a call: mmdet reads mmcv.ops as soon as it is imported itself.
install()


def __getattr__(name: str) -> Any:
    if name not in _OF_MMCV:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    # Late: mmcv takes over a second to import, and most commands need none of its modules.
    import mmcv.ops

    return getattr(mmcv.ops, name)
