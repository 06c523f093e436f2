from __future__ import annotations

import json
from pathlib import Path

import pytest
from mmseg.datasets import PackSegInputs

from internvl_mm.data.datasets import DigitSceneDataset, FewShotDataset, OpenMMLabDataset, RandomPartDataset
from internvl_mm.data.loading import LoadImage, LoadSegMap
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.utils.errors import ConfigError, DataError
from tests.cases import seg_dataset, write_seg_folder

TRAIN = dict(type=DigitSceneDataset, split='train')


def few(folder: Path, **change) -> FewShotDataset:
    return FewShotDataset(
        **dict(dict(dataset=TRAIN, shots=4, subset_file=str(folder / 'few' / 'subset.json')), **change)
    )


def test_every_class_has_as_many_samples_and_the_choice_is_kept(tmp_path: Path):
    dataset = few(tmp_path)
    assert sorted(dataset.targets.tolist()) == sorted(list(range(10)) * 4)
    written = json.loads((tmp_path / 'few' / 'subset.json').read_text())
    assert (written['dataset'], written['size'], written['shots'], written['seed']) == (
        'DigitSceneDataset',
        1437,
        4,
        0,
    )
    assert [dataset[index]['data_samples'].index for index in range(40)] == written['indices']
    assert [file.name for file in (tmp_path / 'few').iterdir()] == ['subset.json']


def test_an_existing_file_is_what_counts(tmp_path: Path):
    few(tmp_path)
    file = tmp_path / 'few' / 'subset.json'
    content = json.loads(file.read_text())
    file.write_text(json.dumps(dict(content, indices=content['indices'][:10])))
    assert len(few(tmp_path)) == 10


def test_the_seed_decides(tmp_path: Path):
    choices = [few(tmp_path / str(seed), seed=seed).fingerprint() for seed in (0, 0, 1)]
    assert choices[0] == choices[1] != choices[2]


def test_epochs_reach_the_full_data_set(tmp_path: Path):
    dataset = few(tmp_path)
    assert dataset[SampleIndex(0, 2)]['data_samples'].epoch == 2
    dataset.set_epoch(5)
    assert dataset[0]['data_samples'].epoch == 5


def test_a_file_of_another_choice_is_refused(tmp_path: Path):
    few(tmp_path)
    with pytest.raises(DataError, match=r"was made for \{'shots': 4\}, but \{'shots': 8\} is asked for"):
        few(tmp_path, shots=8)
    file = tmp_path / 'few' / 'subset.json'
    file.write_text(json.dumps(dict(json.loads(file.read_text()), indices=[99999])))
    with pytest.raises(DataError, match='was made for other indices'):
        few(tmp_path)
    for broken in ('{', '[]', '{"indices": "x"}'):
        file.write_text(broken)
        with pytest.raises(DataError, match='not a subset file'):
            few(tmp_path)


def test_classes_with_too_few_samples_are_named(tmp_path: Path):
    with pytest.raises(
        DataError, match=r"class 0 \('0'\) .* has 142 samples, fewer than shots=500; use at most 142"
    ):
        few(tmp_path, shots=500)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / 'few').write_text('in the way')
    with pytest.raises(DataError, match='subset_file=.* cannot be written'):
        few(tmp_path)


def test_one_in_so_many_is_chosen_once(tmp_path: Path):
    full = OpenMMLabDataset(
        seg_dataset(
            write_seg_folder(tmp_path / 'seg'), pipeline=[LoadImage(), LoadSegMap(), PackSegInputs()]
        ),
        name='toy',
    )
    file = tmp_path / 'subset.json'
    half = RandomPartDataset(full, part=2, subset_file=str(file))
    again = RandomPartDataset(full, part=2, subset_file=str(file))
    assert len(half) == len(again) == 1 and half.name == 'toy-1of2'
    assert half.metainfo['classes'] == full.classes and 'palette' in half.metainfo
    assert half[0]['data_samples'].index == json.loads(file.read_text())['indices'][0]
    assert half.fingerprint() == again.fingerprint()
    with pytest.raises(DataError, match="was made for .*'part': 2"):
        RandomPartDataset(full, part=3, subset_file=str(file))
    with pytest.raises(DataError, match="part=4 of 'toy' with 3 samples leaves none; use at most 3"):
        RandomPartDataset(full, part=4, subset_file=str(tmp_path / 'none.json'))
    with pytest.raises(ConfigError, match='part=0 is not possible'):
        RandomPartDataset(full, part=0, subset_file=str(tmp_path / 'none.json'))
    with pytest.raises(ConfigError, match='shots=-1 is not possible'):
        few(tmp_path, shots=-1)
