"""Mask2Former for semantic segmentation, by a handful of sizes."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.config import ConfigDict
from mmseg.models.decode_heads import Mask2FormerHead

import internvl_mm.ops  # noqa: F401 (first: without it mmseg finds no mmdet, and says so only when the head is built)
from internvl_mm.registry import MODELS
from internvl_mm.utils.checks import check_counts


@MODELS.register_module()
class Mask2FormerSegHead(Mask2FormerHead):
    """mmseg's ``Mask2FormerHead`` with the published settings of ADE20K; what depends on sizes follows from them.

    Args:
        in_channels: Channels of the four maps, finest first.
        num_classes: Number of classes.
        strides: Pixels per cell of the maps; only their ratios matter.
        num_queries: Masks per picture.
        channels: Width of pixel decoder and transformer decoder; a multiple of 32, of which each head has that many.
        encoder_layers: Layers of multi-scale deformable attention in the pixel decoder.
        decoder_layers: Layers of masked attention.
        num_points: Points per mask of which the losses are computed.

    Source: Cheng et al. 2022, "Masked-attention Mask Transformer for Universal Image Segmentation"; mmsegmentation
        ``mask2former_r50_8xb2-160k_ade20k-512x512.py``.
    """

    def __init__(
        self,
        in_channels: list[int],
        *,
        num_classes: int,
        strides: Sequence[float] = (4.0, 8.0, 16.0, 32.0),
        num_queries: int = 100,
        channels: int = 256,
        encoder_layers: int = 6,
        decoder_layers: int = 9,
        num_points: int = 12544,
    ):
        check_counts(
            num_classes=num_classes, num_queries=num_queries, channels=channels, num_points=num_points
        )
        # Attributes, not keys, are what mmdet reads from its settings.
        settings = ConfigDict(
            strides=list(strides),
            num_queries=num_queries,
            feat_channels=channels,
            out_channels=channels,
            num_transformer_feat_level=3,  # 1/32, 1/16, 1/8; the map at 1/4 only makes masks
            pixel_decoder=_pixel_decoder(channels, encoder_layers),
            transformer_decoder=_transformer_decoder(channels, decoder_layers),
            positional_encoding=dict(num_feats=channels // 2, normalize=True),
            train_cfg=_training(num_points),
            **_losses(num_classes),
        )
        settings.pixel_decoder.strides = list(strides)
        super().__init__(num_classes, in_channels=in_channels, **settings)


def _attention(channels: int) -> dict:
    # 32 channels a head: 8 heads at the published width of 256.
    return dict(embed_dims=channels, num_heads=max(channels // 32, 1), batch_first=True)


def _pixel_decoder(channels: int, layers: int) -> dict:
    layer = dict(
        self_attn_cfg=dict(_attention(channels), num_levels=3, num_points=4, dropout=0.0),
        ffn_cfg=dict(embed_dims=channels, feedforward_channels=4 * channels, num_fcs=2, ffn_drop=0.0),
    )
    return dict(
        type='mmdet.MSDeformAttnPixelDecoder',
        num_outs=3,
        # 32 groups at the published width; tiny models have fewer channels.
        norm_cfg=dict(type='GN', num_groups=min(32, channels // 2)),
        act_cfg=dict(type='ReLU'),
        encoder=dict(num_layers=layers, layer_cfg=layer),
        positional_encoding=dict(num_feats=channels // 2, normalize=True),
    )


def _transformer_decoder(channels: int, layers: int) -> dict:
    layer = dict(
        self_attn_cfg=_attention(channels),
        cross_attn_cfg=_attention(channels),
        # 2048 at 256 channels; the pixel decoder has half.
        ffn_cfg=dict(embed_dims=channels, feedforward_channels=8 * channels, num_fcs=2, ffn_drop=0.0),
    )
    return dict(return_intermediate=True, num_layers=layers, layer_cfg=layer, init_cfg=None)


def _losses(num_classes: int) -> dict:
    # The class "no object" comes last and weighs a tenth.
    weights = [1.0] * num_classes + [0.1]
    # naive_dice: the plain sums of both masks below the bar, not those of their squares.
    dice = dict(use_sigmoid=True, activate=True, reduction='mean', naive_dice=True, eps=1.0, loss_weight=5.0)
    # Class 2, mask 5 and dice 5, the weights of the costs in _training, too.
    return dict(
        loss_cls=dict(type='mmdet.CrossEntropyLoss', loss_weight=2.0, class_weight=weights),
        loss_mask=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0),
        loss_dice=dict(type='mmdet.DiceLoss', **dice),
    )


def _training(num_points: int) -> dict:
    costs = [
        dict(type='mmdet.ClassificationCost', weight=2.0),
        dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
        dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
    ]
    return dict(
        # 12544 = 112² points of each mask, as in the paper.
        num_points=num_points,
        # PointRend: of three times as many drawn points the most uncertain fill 3/4, chance the rest.
        oversample_ratio=3.0,
        importance_sample_ratio=0.75,
        assigner=dict(type='mmdet.HungarianAssigner', match_costs=costs),
        sampler=dict(type='mmdet.MaskPseudoSampler'),
    )
