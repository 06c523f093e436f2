"""Draw what the model gets: samples after reading, augmentation, mixing and normalisation, with their labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from PIL import Image, ImageDraw
from torch import Tensor

from internvl_mm.engine.runner import Runner
from internvl_mm.registry import MODELS
from internvl_mm.structures import ImageSample
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
    loader.update(batch_size=num, num_workers=0, persistent_workers=False, prefetch_factor=None)
    dataloader = Runner.build_dataloader(loader, seed=(cfg.get('randomness') or {}).get('seed'))
    # As the runner does: the config's own comes before the model's.
    preprocessor = MODELS.build(cfg.get('data_preprocessor') or cfg.model.get('data_preprocessor'))
    batch = preprocessor(next(iter(dataloader)), training=benchmark is None)
    classes = getattr(dataloader.dataset, 'classes', None)
    # Back to 0-1: (x - mean) / std undone.
    pixels = batch['inputs'] * preprocessor.std + preprocessor.mean
    return draw_samples(pixels, batch['data_samples'], classes)


def draw_samples(
    pixels: Tensor, samples: Sequence[ImageSample], classes: Sequence[str] | None = None
) -> Image.Image:
    """Lay out pictures in a sheet, each with its label below.

    Args:
        pixels: ``[B, 3, H, W]`` in 0–1; what lies outside is cut.
        samples: One per picture.
        classes: Names to write instead of numbers.
    """
    height, width = pixels.shape[-2:]
    # A whole number, so that pixels stay squares of equal size.
    scale = max(1, math.ceil(TILE / width))
    height, width = height * scale, width * scale
    columns = min(COLUMNS, len(samples))
    rows = math.ceil(len(samples) / columns)
    lines = max(len(label_lines(sample, classes)) for sample in samples)
    sheet = Image.new('RGB', (columns * (width + 4), rows * (height + lines * LABEL + 4)), 'white')
    pen = ImageDraw.Draw(sheet)
    for index, (picture, sample) in enumerate(zip(pixels, samples)):
        x, y = index % columns * (width + 4), index // columns * (height + lines * LABEL + 4)
        # [3, H, W] in 0–1 to uint8 [H, W, 3]; rounding leaves that range a little.
        values = picture.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        sheet.paste(Image.fromarray(values).resize((width, height), Image.Resampling.NEAREST), (x, y))
        pen.multiline_text(
            (x + 2, y + height), '\n'.join(label_lines(sample, classes)), fill='black', spacing=2
        )
    return sheet


def label_lines(sample: ImageSample, classes: Sequence[str] | None = None) -> list[str]:
    """What a sample is labelled: the shares of a mixed one, every accepted class, or the one class."""
    if 'gt_score' in sample:
        # Mixing blends two pictures; what else has a share has it by smoothing.
        shares, indices = sample.gt_score.topk(min(2, len(sample.gt_score)))
        return [
            f'{_named(index, classes)} {share:.0%}' for index, share in zip(indices.tolist(), shares.tolist())
        ]
    labels = sample.gt_labels if 'gt_labels' in sample else sample.gt_label
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
