"""Keeps a handful of test pictures with what was predicted, for the report."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import FlexibleRunner
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from internvl_mm.evaluation.metrics.exact_match import normalised
from internvl_mm.evaluation.report import PICTURES, Picture
from internvl_mm.registry import HOOKS
from internvl_mm.structures import ImageSample

from .show_predictions import show_sample


@HOOKS.register_module()
class SamplePicturesHook(Hook):
    """Writes pictures of each data set's first samples and first mistakes into ``pictures/`` of the run folder.

    The pictures are what the model saw: after resizing and cropping, before normalisation; for segmentation and
    detection they are drawn with labels and prediction beside them. A later evaluation of the same run replaces them.

    Args:
        samples: Pictures per data set, whatever was predicted.
        mistakes: Further pictures per data set with a wrong prediction.
    """

    def __init__(self, samples: int = 12, mistakes: int = 12):
        self.samples, self.mistakes = samples, mistakes
        # data set -> index -> picture
        self._pictures: dict[str, dict[int, tuple[Picture, torch.Tensor]]] = {}

    def _before_epoch(self, runner: FlexibleRunner, mode: str = 'train') -> None:
        if mode != 'train':
            self._pictures = {}

    def _after_iter(
        self,
        runner: FlexibleRunner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
        mode: str = 'train',
    ) -> None:
        if mode == 'train' or not is_main_process():
            return
        loader = runner.val_dataloader if mode == 'val' else runner.test_dataloader
        classes = (getattr(loader.dataset, 'metainfo', None) or {}).get('classes') or ()
        for pixels, sample in zip(data_batch['inputs'], outputs or ()):
            if 'pred_caption' in sample:
                self._hold(pixels, _judge_caption(sample))
            elif 'pred_logits' in sample:
                self._hold(pixels, _judge(sample, classes))
            elif 'pred_sem_seg' in sample or 'pred_instances' in sample:
                self._draw(sample, loader.dataset)

    def _draw(self, sample: Any, dataset: Any) -> None:
        kept = self._pictures.setdefault(sample.dataset, {})
        if len(kept) >= self.samples or sample.index in kept:
            return
        shown = show_sample(sample, dataset)
        picture = Picture(
            file=file_of(sample),
            dataset=sample.dataset,
            index=sample.index,
            # The sheet shows labels by itself, and a prediction of many pixels or objects is not right or wrong as one.
            label='',
            prediction=shown.summary,
            score=None,
            correct=None,
        )
        kept[sample.index] = picture, pil_to_tensor(shown.sheet)

    def _hold(self, pixels: torch.Tensor, picture: Picture) -> None:
        kept = self._pictures.setdefault(picture.dataset, {})
        # By the index: padded samplers of several processes repeat samples.
        if picture.index in kept:  # measured again, with averaged weights
            return
        if len(kept) < self.samples or (not picture.correct and len(kept) < self.samples + self.mistakes):
            # uint8 [3, H, W], as collated; at most samples + mistakes of them are held.
            kept[picture.index] = picture, pixels.cpu()

    def _after_epoch(self, runner: FlexibleRunner, mode: str = 'train') -> None:
        pictures = [entry for entries in self._pictures.values() for entry in entries.values()]
        if mode == 'train' or not pictures:
            return
        index = Path(runner.log_dir) / PICTURES
        index.parent.mkdir(exist_ok=True)
        # Other samples may be wrong this time; their pictures would stay for ever.
        for old in index.parent.glob('*.png'):
            old.unlink()
        for picture, pixels in pictures:
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(index.parent / picture.file)
        text = json.dumps([asdict(picture) for picture, _ in pictures], indent=1, ensure_ascii=False)
        index.write_text(text, encoding='utf-8')


def _judge(sample: ImageSample, classes: Sequence[str]) -> Picture:
    scores = sample.pred_logits.float().softmax(-1)  # [C]
    predicted = int(scores.argmax())
    accepted = (sample.gt_labels if 'gt_labels' in sample else sample.gt_label).tolist()
    # A metric may score a subset of the classes, whose names are not known here.
    names = classes if len(classes) == len(scores) else [str(index) for index in range(len(scores))]
    return Picture(
        file=file_of(sample),
        dataset=sample.dataset,
        index=sample.index,
        label=' or '.join(names[label] for label in accepted) or 'none',
        prediction=names[predicted],
        score=float(scores[predicted]),
        correct=predicted in accepted,
    )


def _judge_caption(sample: ImageSample) -> Picture:
    right = normalised(sample.pred_caption) in map(normalised, sample.references)
    return Picture(
        file=file_of(sample),
        dataset=sample.dataset,
        index=sample.index,
        # The first reference is enough to compare with; photographs have five.
        label=sample.references[0],
        prediction=sample.pred_caption,
        score=None,
        correct=right,
    )


def file_of(sample: Any) -> str:
    """Name of the picture of a sample, unique within a run."""
    # Names of data sets may have slashes and blanks.
    return f'{re.sub("[^A-Za-z0-9_-]", "_", sample.dataset)}_{sample.index:06d}.png'
