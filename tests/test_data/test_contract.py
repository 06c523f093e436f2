"""Every registered data set keeps the contract of its slot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import BaseDataset, FewShotDataset, KineticsDataset
from internvl_mm.data.samplers import EpochSampler, SampleIndex
from internvl_mm.registry import DATASETS
from internvl_mm.structures import ImageSample
from tests.cases import DATASET_CASES

# Data sets of labelled images; others have tests of their own beside the base's.
OURS = [
    kind
    for kind in DATASETS.module_dict.values()
    if kind.__module__.startswith('internvl_mm.data.')
    and issubclass(kind, (BaseDataset, FewShotDataset))
    and kind is not KineticsDataset  # videos: test_datasets/test_videos.py
]


def test_every_registered_data_set_has_a_case():
    assert set(OURS) == set(DATASET_CASES)


@pytest.fixture(params=OURS, ids=lambda kind: kind.__name__)
def dataset(request, tmp_path: Path):
    return request.param(**DATASET_CASES[request.param](tmp_path))


def test_it_knows_its_length_name_and_classes(dataset):
    assert len(dataset) == len(dataset.targets) == 3 or dataset.name.endswith('shot')
    assert dataset.metainfo == dict(name=dataset.name, classes=dataset.classes)
    assert all(isinstance(name, str) for name in dataset.classes)


def test_its_samples_are_of_the_declared_type(dataset):
    for index in range(len(dataset)):
        item = dataset[index]
        inputs, sample = item['inputs'], item['data_samples']
        assert inputs.dtype == torch.uint8 and inputs.ndim == 3 and len(inputs) == 3
        assert isinstance(sample, ImageSample) and sample.index in range(3)
        assert sample.gt_label.dtype == torch.long and sample.gt_label.tolist() == [dataset.targets[index]]
        assert 0 <= dataset.targets[index] < len(dataset.classes)
        assert sample.path is None or isinstance(sample.path, str)


def test_it_ends_where_it_says(dataset):
    assert len(list(dataset)) == len(dataset)
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_its_fingerprint_is_stable_and_sees_the_transform(request, tmp_path: Path):
    for kind, case in DATASET_CASES.items():
        folder = tmp_path / kind.__name__
        folder.mkdir()
        arguments = case(folder)
        assert kind(**arguments).fingerprint() == kind(**arguments).fingerprint()
        if 'dataset' not in arguments:
            cropped = kind(**arguments, transform=[dict(type=v2.CenterCrop, size=4)])
            assert cropped.fingerprint() != kind(**arguments).fingerprint()


def test_augmentation_depends_on_seed_epoch_and_index_alone(tmp_path: Path):
    """Also read in reverse, twice, or by workers."""
    for kind, case in DATASET_CASES.items():
        folder = tmp_path / kind.__name__
        folder.mkdir()
        arguments = case(folder)
        if 'dataset' in arguments:
            continue
        dataset = kind(**arguments, transform=[v2.RandomResizedCrop(8), v2.ColorJitter(0.5)])
        indices = [SampleIndex(index, epoch, 7) for epoch in (0, 1) for index in range(3)]
        forward = [dataset[index]['inputs'] for index in indices]
        backward = [dataset[index]['inputs'] for index in reversed(indices)][::-1]
        assert all(torch.equal(one, other) for one, other in zip(forward, backward))
        assert not torch.equal(forward[0], forward[3])
        assert not torch.equal(forward[0], dataset[SampleIndex(0, 0, 8)]['inputs'])


@pytest.mark.parametrize('num_workers', [0, 2])
def test_batches_are_the_same_for_any_number_of_workers(tmp_path: Path, num_workers: int):
    from internvl_mm.data.datasets import ImageFolderDataset

    dataset = ImageFolderDataset(
        **DATASET_CASES[ImageFolderDataset](tmp_path), transform=[v2.RandomResizedCrop(8)]
    )
    sampler = EpochSampler(dataset, seed=1)
    loader = DataLoader(
        dataset, sampler=sampler, batch_size=2, num_workers=num_workers, collate_fn=collate_samples
    )
    expected = collate_samples([dataset[index] for index in sampler])['inputs']
    seen = [pixels for batch in loader for pixels in batch['inputs']]
    assert all(torch.equal(one, other) for one, other in zip(seen, expected, strict=True))
