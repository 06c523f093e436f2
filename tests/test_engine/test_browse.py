"""The sheet shows the pixels the model gets and the labels it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from internvl_mm.engine.browse import LABEL, browse, draw_samples, label_lines
from internvl_mm.engine.config import load_config
from internvl_mm.structures import ImageSample
from internvl_mm.utils.errors import ConfigError

DIGITS = str(Path(__file__).parents[1] / 'data' / 'configs' / 'digits.py')


def sample(label: int = 1) -> ImageSample:
    """A labelled sample."""
    return ImageSample.labelled(label, dataset='digits', index=0)


def test_pixels_survive() -> None:
    pixels = torch.rand(7, 3, 112, 112)
    sheet = np.asarray(draw_samples(pixels, [sample()] * 7))
    assert sheet.shape == (2 * (112 + LABEL + 4), 6 * 116, 3)
    second_row = sheet[112 + LABEL + 4 : 112 + LABEL + 4 + 112, :112]
    assert np.array_equal(second_row, (pixels[6] * 255).round().byte().permute(1, 2, 0).numpy())


def test_labels() -> None:
    names = ('zero', 'one', 'two')
    assert label_lines(sample()) == ['1']
    assert label_lines(sample(), names) == ['1 one']
    mixed = sample()
    mixed.gt_score = torch.tensor([0.1, 0.7, 0.2])
    assert label_lines(mixed, names) == ['1 one 70%', '2 two 20%']
    several = sample()
    several.gt_labels = torch.tensor([0, 2])
    assert label_lines(several) == ['0, 2']
    several.gt_labels = torch.tensor([], dtype=torch.long)
    assert label_lines(several) == ['no label']


def test_training_data_and_benchmarks() -> None:
    cfg = load_config(DIGITS)
    train, again = np.asarray(browse(cfg, num=4)), np.asarray(browse(cfg, num=4))
    assert np.array_equal(train, again)
    benchmark = np.asarray(browse(cfg, benchmark='digits', num=4))
    assert benchmark.shape == train.shape == (112 + LABEL + 4, 4 * 116, 3)
    assert not np.array_equal(train, benchmark)
    assert cfg.train_dataloader.batch_size == 8  # the config is as it was


def test_nothing_to_draw() -> None:
    cfg = load_config(DIGITS)
    with pytest.raises(ConfigError, match="no benchmark 'digit'. Did you mean 'digits'?"):
        browse(cfg, benchmark='digit')
    cfg.pop('train_dataloader')
    with pytest.raises(ConfigError, match='no train_dataloader'):
        browse(cfg)
