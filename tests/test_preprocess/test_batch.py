from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2

from internvl_mm.preprocess import CLIP_MEAN, CLIP_STD, ImageDataPreprocessor, Mixing
from internvl_mm.structures import BadSample, ImageSample
from internvl_mm.utils.errors import ConfigError


def batch(size: int = 4) -> dict:
    generator = torch.Generator().manual_seed(0)
    return dict(
        inputs=[
            torch.randint(0, 256, (3, 6, 8), generator=generator, dtype=torch.uint8) for _ in range(size)
        ],
        data_samples=[ImageSample.labelled(index % 3, dataset='toy', index=index) for index in range(size)],
        bad_samples=[BadSample('toy', 9, None, 'broken')],
    )


def test_pixels_are_normalised_as_torchvision_does():
    data = batch()
    out = ImageDataPreprocessor(mean=CLIP_MEAN, std=CLIP_STD)(data)
    expected = v2.functional.normalize(torch.stack(data['inputs']) / 255, CLIP_MEAN, CLIP_STD)
    assert torch.equal(out['inputs'], expected)
    assert set(out) == {'inputs', 'data_samples'}
    assert [sample.index for sample in out['data_samples']] == [0, 1, 2, 3]


def test_stacked_pictures_are_welcome_and_left_as_they_are():
    data = batch()
    stacked = torch.stack(data['inputs'])
    before = stacked.clone()
    preprocessor = ImageDataPreprocessor()
    assert torch.equal(preprocessor(dict(inputs=stacked))['inputs'], preprocessor(data)['inputs'])
    assert torch.equal(stacked, before)


def test_augmentation_is_for_training_only():
    preprocessor = ImageDataPreprocessor(batch_augment=dict(type=Mixing, num_classes=3))
    plain = ImageDataPreprocessor()(batch())['inputs']
    evaluated = preprocessor(batch(), training=False)
    assert torch.equal(evaluated['inputs'], plain) and 'gt_score' not in evaluated['data_samples'][0]
    trained = preprocessor(batch(), training=True)
    assert not torch.equal(trained['inputs'], plain) and trained['data_samples'][0].gt_score.shape == (3,)


def test_it_adds_nothing_to_checkpoints_and_stays_fp32_in_half_models():
    preprocessor = ImageDataPreprocessor()
    assert preprocessor.state_dict() == {}
    assert preprocessor.to(torch.bfloat16)(batch())['inputs'].dtype == torch.float32


def test_pictures_of_different_size_are_refused():
    data = batch()
    data['inputs'][1] = data['inputs'][1][:, :4]
    with pytest.raises(ConfigError, match=r'differ in size: \(3, 4, 8\), \(3, 6, 8\); .*fixed size'):
        ImageDataPreprocessor()(data)


def test_normalised_input_is_refused():
    with pytest.raises(ConfigError, match='inputs are torch.float32 instead of uint8'):
        ImageDataPreprocessor()(dict(inputs=torch.rand(2, 3, 4, 4)))


@pytest.mark.parametrize('setting', [dict(mean=(0.5, 0.5)), dict(std=(1.0, 1.0)), dict(std=(0.0, 1.0, 1.0))])
def test_impossible_statistics_are_refused(setting: dict):
    with pytest.raises(ConfigError, match='both need three values'):
        ImageDataPreprocessor(**setting)
