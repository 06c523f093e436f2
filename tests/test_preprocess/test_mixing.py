from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.data import Mixup

from internvl_mm.data.seeding import seeded
from internvl_mm.preprocess import Mixing
from internvl_mm.structures import ImageSample, stack_field
from internvl_mm.utils.errors import ConfigError, DataError


def samples(size: int, epoch: int = 0) -> list[ImageSample]:
    made = [ImageSample.labelled(index % 5, dataset='toy', index=index) for index in range(size)]
    for sample in made:
        sample.set_metainfo(dict(epoch=epoch))
    return made


def pictures(size: int) -> torch.Tensor:
    return torch.randn(size, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def mixed(size: int = 6, epoch: int = 0, **options) -> tuple[torch.Tensor, torch.Tensor]:
    batch = samples(size, epoch)
    inputs = Mixing(5, **options)(pictures(size), batch)
    return inputs, stack_field(batch, 'gt_score')


@pytest.mark.parametrize('epoch', range(6))  # coins fall both ways
def test_it_is_timms_mixup_with_the_published_settings(epoch: int):
    timm = Mixup(
        mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5, label_smoothing=0.1, num_classes=5
    )
    with seeded(*[number for index in range(6) for number in (epoch, index)]):
        expected = timm(pictures(6), torch.arange(6) % 5)
    inputs, scores = mixed(epoch=epoch)
    assert torch.equal(inputs, expected[0]) and torch.equal(scores, expected[1])


def test_the_samples_decide_and_nothing_else_does():
    first = mixed(epoch=1)
    np.random.seed(123)
    state = np.random.get_state()[1].copy()
    again = mixed(epoch=1)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert np.array_equal(np.random.get_state()[1], state)
    assert not torch.equal(first[0], mixed(epoch=2)[0])


def test_scores_are_distributions():
    for epoch in range(4):
        torch.testing.assert_close(mixed(epoch=epoch)[1].sum(1), torch.ones(6))


@pytest.mark.parametrize('off', [dict(mixup=0.0, cutmix=0.0), dict(prob=0.0)])
def test_without_mixing_labels_are_smoothed_only(off: dict):
    inputs, scores = mixed(**off)
    assert torch.equal(inputs, pictures(6))
    torch.testing.assert_close(scores[1], torch.tensor([0.02, 0.92, 0.02, 0.02, 0.02]))


@pytest.mark.parametrize('size', [1, 5])
def test_the_last_picture_of_an_odd_batch_is_smoothed_only(size: int):
    inputs, scores = mixed(size)
    assert torch.equal(inputs[-1], pictures(size)[-1])
    assert scores[-1].max() == pytest.approx(0.92) and scores[-1].argmax() == (size - 1) % 5
    assert size == 1 or not torch.equal(inputs[0], pictures(size)[0])


def test_labels_beyond_the_head_are_refused():
    batch = [ImageSample.labelled(label, dataset='toy', index=label) for label in (0, 7)]
    with pytest.raises(DataError, match="label 7 of sample 7 of data set 'toy' is outside num_classes=5"):
        Mixing(5)(pictures(2), batch)


@pytest.mark.parametrize('setting', [dict(mixup=-0.1), dict(cutmix=-1), dict(prob=1.5), dict(smoothing=1.0)])
def test_numbers_out_of_range_are_refused(setting: dict):
    with pytest.raises(ConfigError, match=f'{next(iter(setting))}={next(iter(setting.values()))}'):
        Mixing(num_classes=5, **setting)
