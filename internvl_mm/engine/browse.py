"""Draw what the model gets: samples after reading, augmentation, mixing and normalisation, with their labels.

Classes and captions are written below the pictures, label maps, boxes and masks are drawn over them.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from internvl_mm.data.loading import IGNORE
from internvl_mm.engine.runner import Runner
from internvl_mm.evaluation.drawing import LETTER, draw_classes, draw_objects
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import ConfigError, did_you_mean

TILE = 112  # pixels a picture is at least wide: smaller ones are enlarged, larger ones stay as they are
LABEL = 14  # pixels of a line of text
COLUMNS = 6


def browse(cfg: Config, *, benchmark: str | None = None, num: int = 24) -> Image.Image:
    """Draw the first samples of a run's data.

    Args:
        cfg: Checked config.
        benchmark: Name of the benchmark to draw; the training data when ``None``, with its augmentation.
        num: Number of samples.

    Raises:
        ConfigError: There is no such benchmark, or no training data.
    """
    loader = _loader_settings(cfg, benchmark)
    # One batch in this process: workers would start for nothing, and their options are refused without them.
    loader.update(
        batch_size=num, num_workers=0, persistent_workers=False, prefetch_factor=None, drop_last=False
    )
    dataloader = Runner.build_dataloader(loader, seed=(cfg.get('randomness') or {}).get('seed'))
    batch = next(iter(dataloader))
    if not isinstance(batch['inputs'], (Tensor, list)):
        raise ConfigError(
            f'the samples of this config are {type(batch["inputs"]).__name__}, and only pictures can be drawn: '
            'tools/check_data.py reads conversations'
        )
    # As the runner does: the config's own comes before the model's.
    preprocessor = MODELS.build(cfg.get('data_preprocessor') or cfg.model.get('data_preprocessor'))
    # Those of mmseg and mmdet pad pictures to the largest of a batch, or refuse several sizes: one at a time.
    alone = isinstance(preprocessor, ImgDataPreprocessor)
    parts = _one_by_one(batch) if alone else [batch]
    classes = getattr(dataloader.dataset, 'classes', None)
    pixels: list[Tensor] = []
    samples: list[Any] = []
    for part in parts:
        ready = preprocessor(part, training=benchmark is None)
        # (x - mean) / std undone; theirs count from 0 to 255.
        values = ready['inputs'] * preprocessor.std + preprocessor.mean
        pixels += values / 255 if alone else values
        samples += ready['data_samples']
    return draw_samples(pixels, samples, classes)


def _one_by_one(batch: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        dict(inputs=[picture], data_samples=[sample])
        for picture, sample in zip(batch['inputs'], batch['data_samples'], strict=True)
    ]


def draw_samples(
    pixels: Sequence[Tensor] | Tensor, samples: Sequence[Any], classes: Sequence[str] | None = None
) -> Image.Image:
    """Lay out pictures in a sheet, each with its labels on it or below.

    Args:
        pixels: ``[3, H, W]`` in 0–1 for each picture; what lies outside is cut.
        samples: One per picture.
        classes: Names to write instead of numbers.
    """
    pictures = [_drawn(picture, sample, classes) for picture, sample in zip(pixels, samples, strict=True)]
    # A whole number, so that pixels stay squares of equal size.
    scale = max(1, math.ceil(TILE / max(picture.width for picture in pictures)))
    width, height = (scale * max(picture.size[axis] for picture in pictures) for axis in (0, 1))
    columns = min(COLUMNS, len(samples))
    rows = math.ceil(len(samples) / columns)
    texts = [
        [part for line in label_lines(sample, classes) for part in textwrap.wrap(line, width // LETTER)]
        for sample in samples
    ]
    lines = max(map(len, texts))
    sheet = Image.new('RGB', (columns * (width + 4), rows * (height + lines * LABEL + 4)), 'white')
    pen = ImageDraw.Draw(sheet)
    for index, (picture, text) in enumerate(zip(pictures, texts)):
        x, y = index % columns * (width + 4), index // columns * (height + lines * LABEL + 4)
        size = (scale * picture.width, scale * picture.height)
        sheet.paste(picture.resize(size, Image.Resampling.NEAREST), (x, y))
        pen.multiline_text((x + 2, y + height), '\n'.join(text), fill='black', spacing=2)
    return sheet


def _drawn(pixels: Tensor, sample: Any, classes: Sequence[str] | None) -> Image.Image:
    """The picture, under its label map or objects if it has any."""
    # [3, H, W] in 0–1 to uint8; rounding leaves that range a little.
    picture = to_pil_image(pixels.clamp(0, 1).mul(255).round().to(torch.uint8).cpu())
    if 'gt_sem_seg' in sample:
        labels = sample.gt_sem_seg.data.cpu()  # [1, h, w]
        # For testing, label maps keep the size of their file.
        resized = F.interpolate(labels[None].float(), pixels.shape[-2:], mode='nearest')[0, 0].long()
        return draw_classes(picture, resized, ignore=IGNORE)
    if 'bboxes' in sample.get('gt_instances', ()):
        objects = sample.gt_instances.cpu()
        names = [_named(label, classes) for label in objects.labels.tolist()]
        boxes = getattr(objects.bboxes, 'tensor', objects.bboxes)
        masks = objects.get('masks')
        shown = None if masks is None else masks.to_tensor(torch.bool, 'cpu')
        return draw_objects(picture, boxes, objects.labels.tolist(), names, shown)
    return picture


def label_lines(sample: Any, classes: Sequence[str] | None = None) -> list[str]:
    """What a sample is labelled: the shares of a mixed one, every class in it, or its caption."""
    if 'gt_score' in sample:
        # Mixing blends two pictures; what else has a share has it by smoothing.
        shares, indices = sample.gt_score.topk(min(2, len(sample.gt_score)))
        return [
            f'{_named(index, classes)} {share:.0%}' for index, share in zip(indices.tolist(), shares.tolist())
        ]
    if 'gt_sem_seg' in sample:
        labels = sample.gt_sem_seg.data.unique()
        labels = labels[labels != IGNORE]
    elif 'gt_instances' in sample:
        labels = sample.gt_instances.get('labels', torch.empty(0)).unique()
    elif 'gt_labels' in sample or 'gt_label' in sample:
        labels = sample.gt_labels if 'gt_labels' in sample else sample.gt_label
    else:
        return [str(sample.get('caption') or 'no label')]
    return [', '.join(_named(index, classes) for index in labels.tolist()) or 'no label']


def _named(index: int, classes: Sequence[str] | None) -> str:
    return f'{index} {classes[index]}' if classes and classes[index] != str(index) else str(index)


def _loader_settings(cfg: Config, benchmark: str | None) -> dict[str, Any]:
    if benchmark is None:
        if not cfg.get('train_dataloader'):
            raise ConfigError('the config has no train_dataloader to draw: name one of its benchmarks')
        return cfg.train_dataloader.copy()
    benchmarks = cfg.get('benchmarks') or {}
    if benchmark not in benchmarks:
        hint = did_you_mean(benchmark, benchmarks) or f' There are: {", ".join(benchmarks) or "none"}.'
        raise ConfigError(f"the config has no benchmark '{benchmark}'.{hint}")
    return benchmarks[benchmark].dataloader.copy()
