from __future__ import annotations

import numpy as np
import pytest
import torch

from internvl_mm.data.datasets import DigitSceneDataset
from internvl_mm.data.digit_scenes import digit_at
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.utils.errors import ConfigError, DataError


def test_train_is_fresh_every_epoch_and_test_is_not():
    train, test = DigitSceneDataset('train'), DigitSceneDataset('test')
    assert (len(train), len(test), train.num_classes) == (1437, 360, 10)
    for dataset, fresh in ((train, True), (test, False)):
        first, second = (dataset[SampleIndex(5, epoch)] for epoch in (0, 1))
        assert torch.equal(first['inputs'], second['inputs']) != fresh
        assert first['data_samples'].gt_label == second['data_samples'].gt_label


@pytest.mark.parametrize('split', ['train', 'test'])
def test_pictures_and_labels_are_the_converters(split: str):
    dataset = DigitSceneDataset(split, size=32, seed=3)
    for index in (0, 7, 359):
        scene = digit_at(split, seed=3, index=index, canvas=32)
        item = dataset[index]
        assert np.array_equal(item['inputs'].permute(1, 2, 0).numpy(), scene.image)
        assert item['data_samples'].gt_label.item() == scene.digits[0].value


def test_labels_hold_when_the_length_is_no_multiple_of_the_scans():
    dataset = DigitSceneDataset('test', length=365)
    assert dataset.targets[360:].tolist() == dataset.targets[:5].tolist()
    assert not torch.equal(dataset[360]['inputs'], dataset[0]['inputs'])


def test_settings_count_for_the_fingerprint():
    prints = [
        DigitSceneDataset('test', **change).fingerprint() for change in ({}, dict(size=32), dict(seed=1))
    ]
    assert len(set(prints)) == 3


def test_wrong_settings_are_refused():
    with pytest.raises(DataError, match="split='tests'"):
        DigitSceneDataset('tests')
    with pytest.raises(ConfigError, match='length=0'):
        DigitSceneDataset('test', length=0)
