"""Image classification: fine-tuning, and probing when the backbone is frozen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from internvl_mm.models.losses import ClassificationLoss
from internvl_mm.registry import MODELS
from internvl_mm.structures import ImageSample, stack_field
from internvl_mm.utils.errors import ConfigError, DataError

from .base import BaseTask, Part, build_part


@MODELS.register_module()
class ImageClassifier(BaseTask):
    """Backbone, neck and head to class scores.

    Parts given as configs may leave out the widths: the neck takes ``dim`` from the backbone, the head ``in_dim`` from
    the neck. A frozen backbone (``frozen='all'``) runs without gradients.

    Args:
        backbone: Pixels to features, a :class:`~internvl_mm.models.backbones.BaseBackbone`.
        neck: Features to vectors, a :class:`~internvl_mm.models.necks.BaseNeck`.
        head: Vectors to logits, e.g. :class:`~internvl_mm.models.heads.LinearClsHead`.
        loss: Logits and targets to a number; plain cross entropy when left out.
        data_preprocessor: Normalises and, in training, mixes images; none passes batches through.
    """

    fills = {'neck': ('dim',), 'head': ('in_dim',)}  # arguments of parts that a config may leave out

    def __init__(
        self, *, backbone: Part, neck: Part, head: Part, loss: Part = None, data_preprocessor: Part = None
    ):
        super().__init__(data_preprocessor=data_preprocessor)
        self.backbone = build_part(backbone)
        self.neck = build_part(_with_width(neck, dim=self.backbone.width))
        self.head = build_part(_with_width(head, in_dim=self.neck.out_dim))
        # Not self.loss, which is the method mmengine calls.
        self.criterion = build_part(loss) or ClassificationLoss()
        if self.head.in_dim != self.neck.out_dim:
            raise ConfigError(
                f'the head takes in_dim={self.head.in_dim} but {type(self.neck).__name__} gives '
                f'{self.neck.out_dim} values per image: leave in_dim out of the head config to have it filled in'
            )

    @property
    def width(self) -> int:
        """See :class:`BaseTask`."""
        return self.backbone.width

    @property
    def num_classes(self) -> int:
        """Number of logits per image."""
        return self.head.num_classes

    def check_data(self, metainfo: dict) -> None:
        """See :class:`BaseTask`."""
        classes, dataset = metainfo.get('classes'), metainfo.get('name', 'the training data')
        if classes is not None and len(classes) != self.num_classes:
            raise DataError(
                f'{dataset} has {len(classes)} classes but the head has num_classes={self.num_classes}: '
                f'set model.head.num_classes={len(classes)}, or train on data with the classes of the head'
            )

    def extract(self, inputs: Tensor) -> Tensor:
        """Pooled features ``[B, out_dim]`` of pixels ``[B, 3, H, W]``."""
        return self.neck(self.backbone(inputs))

    def loss(self, inputs: Tensor, data_samples: list[ImageSample]) -> dict[str, Tensor]:
        """Training loss, and the share of images in percent whose (main) class scores highest, as ``top1``."""
        target = self._target(data_samples)
        logits = self.head(self.extract(inputs))  # [B, C]
        # Mixup and CutMix give [B, C] shares instead of classes; the larger share counts as the class.
        main_class = target.argmax(dim=-1) if target.is_floating_point() else target
        top1 = 100.0 * (logits.detach().argmax(dim=-1) == main_class).float().mean()
        return dict(loss=self.criterion(logits, target), top1=top1)

    def halves(
        self, inputs: Tensor, data_samples: list[ImageSample]
    ) -> list[tuple[float, dict[str, Any]]] | None:
        """See :class:`BaseTask`; batch norms that train couple the images of a batch."""
        middle = len(inputs) // 2  # 0 for a single image, which cannot be halved
        norms = (module for module in self.modules() if isinstance(module, _BatchNorm))
        if not middle or any(norm.training for norm in norms):
            return None
        parts = slice(None, middle), slice(middle, None)
        # Criterions are means over images, so that a share is a share of the images.
        return [
            (len(inputs[part]) / len(inputs), dict(inputs=inputs[part], data_samples=data_samples[part]))
            for part in parts
        ]

    def predict(self, inputs: Tensor, data_samples: list[ImageSample]) -> list[ImageSample]:
        """Fill ``pred_logits`` (fp32) into the samples."""
        logits = self.head(self.extract(inputs)).float()
        for sample, scores in zip(data_samples, logits, strict=True):
            sample.pred_logits = scores
        return data_samples

    def _target(self, samples: list[ImageSample]) -> Tensor:
        """Soft targets ``[B, C]`` when the samples carry them, else checked class indices ``[B]``."""
        if all('gt_score' in sample for sample in samples):
            target = stack_field(samples, 'gt_score')
            if target.shape[-1] != self.num_classes:
                raise DataError(
                    f'soft targets have {target.shape[-1]} classes but the head has num_classes={self.num_classes}: '
                    'give the mixing of the data_preprocessor and the head the same number'
                )
            return target
        labels = torch.cat([sample.gt_label for sample in samples])  # [B]
        outside = ((labels < 0) | (labels >= self.num_classes)).nonzero()
        if len(outside):
            sample = samples[int(outside[0])]
            raise DataError(
                f"label {int(sample.gt_label)} of image {sample.get('index')} of '{sample.get('dataset')}' "
                f"({sample.get('path') or 'no file'}) is outside the head's classes 0 to {self.num_classes - 1}: "
                'correct the label, or set model.head.num_classes to the number of classes of the data'
            )
        return labels


def _with_width(part: Part, **width: int) -> Part:
    """Fill the width into a part given as a config that does not name it."""
    # A width in the config wins; for the head the constructor compares it.
    return {**width, **part} if isinstance(part, dict) else part
