"""Semantic segmentation with the heads of mmsegmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement, PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

import internvl_mm.ops  # noqa: F401 (lets mmseg import the heads of mmdet)
from internvl_mm.models.inference import SlideInference, WholeInference
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import ConfigError, DataError

from .base import BaseTask, Part, build_part


@MODELS.register_module()
class Segmenter(BaseTask):
    """Backbone, neck and heads of mmseg to a class per pixel.

    Heads compute in fp32 whatever the precision of the run, as published; their weights are fp32 anyway. Parts given as
    configs may leave out what follows from the part before: ``dim`` of the neck; ``in_channels`` of a head, one number
    per map that its ``in_index`` names (the last map without one), and of Mask2Former, which takes all, ``strides``.

    Args:
        backbone: Pixels to features with maps, a :class:`~internvl_mm.models.backbones.BaseBackbone`.
        neck: Features to maps, a :class:`~internvl_mm.models.necks.PyramidNeck`; the backbone's own maps when left out.
        decode_head: A head of mmseg.
        auxiliary_head: Further heads of mmseg that only add losses.
        inference: :class:`~internvl_mm.models.inference.WholeInference` (default), or ``SlideInference``.
        data_preprocessor: mmseg's ``SegDataPreProcessor``.

    Raises:
        ConfigError: A head takes maps of another number or width than there are.
    """

    fills = {
        'neck': ('dim',),
        'decode_head': ('in_channels', 'strides'),
        'auxiliary_head': ('in_channels',),
    }

    def __init__(
        self,
        *,
        backbone: Part,
        decode_head: Part,
        neck: Part = None,
        auxiliary_head: nn.Module | dict | Sequence[dict] | None = None,
        inference: WholeInference | SlideInference | dict | None = None,
        data_preprocessor: Part = None,
    ):
        super().__init__(data_preprocessor=data_preprocessor)
        self.backbone = build_part(backbone)
        self.neck = build_part({'dim': self.backbone.width, **neck} if isinstance(neck, dict) else neck)
        channels = self.backbone.width if self.neck is None else self.neck.out_channels
        strides = self.backbone.strides if self.neck is None else self.neck.strides
        if not strides:
            raise ConfigError(
                'the backbone gives no maps: set its out_indices to the blocks whose outputs the head takes'
            )
        self.decode_head = _build_head(decode_head, channels, strides)
        # One head keeps the published names auxiliary_head.*, several are numbered.
        several = isinstance(auxiliary_head, (list, tuple))
        heads = list(auxiliary_head) if several else [auxiliary_head] if auxiliary_head else []
        built = [_build_head(head, channels, strides) for head in heads]
        self.auxiliary_head: Any = nn.ModuleList(built) if several else built[0] if built else None
        self.inference: Any = MODELS.build(inference) if isinstance(inference, dict) else inference
        self.inference = self.inference or WholeInference()

    @property
    def width(self) -> int:
        """See :class:`BaseTask`."""
        return self.backbone.width

    @property
    def num_classes(self) -> int:
        """Number of classes of the head."""
        return self.decode_head.num_classes

    def check_data(self, metainfo: dict) -> None:
        """See :class:`BaseTask`."""
        classes, dataset = metainfo.get('classes'), metainfo.get('name', 'the training data')
        if classes is not None and len(classes) != self.num_classes:
            raise DataError(
                f'{dataset} has {len(classes)} classes but the head has num_classes={self.num_classes}: '
                f'set model.decode_head.num_classes={len(classes)}, or train on data with the classes of the head'
            )

    def extract(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Maps ``[B, C, h, w]`` the heads take, of pixels ``[B, 3, H, W]``."""
        features = self.backbone(inputs)
        return features.maps if self.neck is None else self.neck(features)

    def loss(self, inputs: Tensor, data_samples: list[BaseDataElement]) -> dict[str, Tensor]:
        """Losses of all heads; names begin with ``decode.``, ``aux.`` or ``aux_0.``, ``aux_1.``, … as in mmseg."""
        heads = {'decode': self.decode_head}
        if isinstance(self.auxiliary_head, nn.ModuleList):
            heads |= {f'aux_{number}': head for number, head in enumerate(self.auxiliary_head)}
        elif self.auxiliary_head is not None:
            heads['aux'] = self.auxiliary_head
        maps = self.extract(inputs)
        with torch.autocast(inputs.device.type, enabled=False):
            maps = tuple(each.float() for each in maps)
            return {
                f'{prefix}.{name}': value
                for prefix, head in heads.items()
                # None: a train_cfg, which mmseg's usual heads take and do not read.
                for name, value in head.loss(maps, data_samples, None).items()
            }

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits ``[B, num_classes, H, W]`` in fp32 of pixels ``[B, 3, H, W]`` in one piece."""
        maps = self.extract(pixels)
        # torch.Size tells mmseg's heads the size to resample to, before any size an earlier transform left.
        shapes = [dict(img_shape=pixels.shape[-2:])] * len(pixels)
        with torch.autocast(pixels.device.type, enabled=False):
            return self.decode_head.predict(tuple(each.float() for each in maps), shapes, None)

    def predict(self, inputs: Tensor, data_samples: list[BaseDataElement]) -> list[BaseDataElement]:
        """Fill ``pred_sem_seg``, a class per pixel ``[1, H0, W0]`` of the original picture, into the samples."""
        # Pixels first, then classes: argmax of resampled logits is the published order.
        for sample, logits in zip(data_samples, self.inference(self.logits, inputs), strict=True):
            sample.set_data(dict(pred_sem_seg=PixelData(data=self._classes(logits, sample.metainfo))))
        return data_samples

    def _classes(self, logits: Tensor, meta: dict[str, Any]) -> Tensor:
        """Most likely class at original resolution from logits ``[C, H, W]``."""
        # [left, right, top, bottom], from a data preprocessor that pads for testing
        left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
        # Backwards through the test pipeline, which resizes, flips, then pads.
        logits = logits[:, top : logits.shape[1] - bottom, left : logits.shape[2] - right]
        if meta.get('flip'):
            logits = logits.flip(-1 if meta.get('flip_direction', 'horizontal') == 'horizontal' else -2)
        size = tuple(meta.get('ori_shape', logits.shape[-2:]))[:2]
        align = self.decode_head.align_corners
        logits = F.interpolate(logits[None], size, mode='bilinear', align_corners=align)  # [1, C, H0, W0]
        if logits.shape[1] == 1:
            # Heads with out_channels=1 score one class against the background.
            return (logits[:, 0].sigmoid() > self.decode_head.threshold).long()
        return logits.argmax(dim=1)  # [1, H0, W0]


def _build_head(head: Part, channels: int, strides: Sequence[float]) -> Any:
    """Build a head on maps of the given widths and strides."""
    if isinstance(head, dict):
        head = dict(head)
        # Also for heads that a config names: their library is told by no class.
        with DefaultScope.overwrite_default_scope('mmseg'):
            kind = MODELS.get(head['type']) if isinstance(head['type'], str) else head['type']
            takes_all = not (isinstance(kind, type) and issubclass(kind, BaseDecodeHead))  # Mask2Former
            index = head.get('in_index', list(range(len(strides))) if takes_all else -1)  # mmseg's default
            head.setdefault('in_channels', channels if isinstance(index, int) else [channels] * len(index))
            if takes_all and 'in_index' not in head:
                head.setdefault('strides', list(strides))
            head = MODELS.build(head)
    _check_maps(head, channels, len(strides))
    return head


def _check_maps(head: Any, channels: int, count: int) -> None:
    if not hasattr(head, 'in_index'):
        return
    indices = [head.in_index] if isinstance(head.in_index, int) else list(head.in_index)
    for index in indices:
        if not -count <= index < count:
            raise ConfigError(
                f'{type(head).__name__} takes in_index={head.in_index}, but there are {count} maps (0 to {count - 1}): '
                'set out_indices of the backbone, the neck, or in_index of the head'
            )
    # With resize_concat mmseg has replaced the widths by their sum.
    widths = {head.in_channels} if isinstance(head.in_channels, int) else set(head.in_channels)
    if widths - {channels} and head.input_transform != 'resize_concat':
        raise ConfigError(
            f'{type(head).__name__} takes maps of in_channels={head.in_channels}, but they have {channels}: leave '
            'in_channels out of the config to have it filled in'
        )
