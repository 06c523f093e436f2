"""Mixup, CutMix and label smoothing of a batch."""

from __future__ import annotations

import torch
from timm.data import Mixup
from timm.data.mixup import mixup_target
from torch import Tensor

from internvl_mm.data.seeding import seeded
from internvl_mm.registry import TRANSFORMS
from internvl_mm.structures import ImageSample, stack_field
from internvl_mm.utils.checks import check_shares
from internvl_mm.utils.errors import ConfigError, DataError


@TRANSFORMS.register_module()
class Mixing:
    """Mix each picture with its mirror in the batch (first with last) and give samples soft targets ``gt_score``.

    timm's batch mode with the settings of the published ImageNet-1K probes; per batch, Mixup or CutMix by a coin.
    timm draws from NumPy's global generator; here what is drawn is a function of which samples are in the batch
    (epoch and index), so that a resumed run mixes as an uninterrupted one would.

    Args:
        num_classes: Number of classes C.
        mixup: Beta parameter of Mixup; 0 turns it off.
        cutmix: Beta parameter of CutMix; 0 turns it off.
        smoothing: Label smoothing, spread over all classes.
        prob: Share of batches that are mixed.

    Raises:
        ConfigError: A number is out of its range.

    Source: Zhang et al. 2017 (Mixup), Yun et al. 2019 (CutMix).
    """

    def __init__(
        self,
        num_classes: int,
        *,
        mixup: float = 0.8,
        cutmix: float = 1.0,
        smoothing: float = 0.1,
        prob: float = 1.0,
    ):
        if min(mixup, cutmix) < 0 or not 0 <= prob <= 1:
            raise ConfigError(
                f'mixup={mixup}, cutmix={cutmix}, prob={prob}: the first two must not be negative (0 turns them off), '
                'the last is a share from 0 to 1'
            )
        check_shares(smoothing=smoothing)
        self.num_classes = num_classes
        self.smoothing = smoothing
        # timm's other defaults are the published ones: Mixup or CutMix evenly (switch_prob 0.5), one draw per batch.
        self._mix = Mixup(
            mixup_alpha=mixup,
            cutmix_alpha=cutmix,
            # timm asserts that one of the two is on.
            prob=prob if mixup > 0 or cutmix > 0 else 0.0,
            label_smoothing=smoothing,
            num_classes=num_classes,
        )

    def __call__(self, inputs: Tensor, samples: list[ImageSample]) -> Tensor:
        """Mix a batch and set ``gt_score``, fp32 ``[C]``, on its samples.

        Args:
            inputs: Float pictures ``[B, 3, H, W]``, changed in place.
            samples: Their samples, with ``gt_label``.

        Raises:
            DataError: A label is not below ``num_classes``.
        """
        # [B, 1] -> [B], as timm takes them
        labels = stack_field(samples, 'gt_label').flatten()
        for sample in samples:
            if not 0 <= int(sample.gt_label) < self.num_classes:
                raise DataError(
                    f"label {int(sample.gt_label)} of sample {sample.index} of data set '{sample.dataset}' is outside "
                    f'num_classes={self.num_classes} of Mixing: data and head should have the same classes'
                )
        # timm wants pairs. In a batch that a bad sample left odd, the last picture is smoothed only.
        paired = len(labels) // 2 * 2
        scores = mixup_target(labels, self.num_classes, smoothing=self.smoothing)  # [B, C]
        if paired:
            # Two numbers per sample; SeedSequence takes keys of any length.
            key = [number for sample in samples for number in (sample.get('epoch', 0), sample.index)]
            with seeded(*key):
                inputs[:paired], scores[:paired] = self._mix(inputs[:paired], labels[:paired])
        for sample, score in zip(samples, scores.to(torch.float32)):
            sample.gt_score = score
        return inputs
