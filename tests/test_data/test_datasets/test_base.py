"""What happens to bad samples, with every kind of damage a file can have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import ImageFolderDataset, ImageListDataset
from internvl_mm.data.ledger import Ledger
from internvl_mm.data.samplers import EpochSampler, SampleIndex
from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import ConfigError, DataError
from tests.cases import image_bytes, write_image_list

DAMAGE = {
    'truncated or damaged': image_bytes()[:-40],
    'empty': b'',
    'not an image of an allowed format': b'just text',
    'max_pixels': image_bytes(size=(200, 200)),
    'cannot be read': None,  # the file is missing
}


def damaged(folder: Path, content: bytes | None, **options) -> ImageListDataset:
    """Five samples of two classes; number 2 is damaged."""
    folder.mkdir(exist_ok=True)
    for number in range(5):
        data = content if number == 2 else image_bytes(number)
        if data is not None:
            (folder / f'{number}.png').write_bytes(data)
    (folder / 'list.txt').write_text(''.join(f'{number}.png {number % 2}\n' for number in range(5)))
    decoder = dict(type='ImageDecoder', max_pixels=10_000)
    return ImageListDataset(str(folder), str(folder / 'list.txt'), num_classes=2, decoder=decoder, **options)


@pytest.mark.parametrize('reason', DAMAGE)
def test_fail_stops_with_the_path_and_the_reason(reason: str, tmp_path: Path):
    dataset = damaged(tmp_path, DAMAGE[reason])
    with pytest.raises(DataError, match=rf'2\.png.*{reason}'):
        dataset[2]


@pytest.mark.parametrize('reason', DAMAGE)
def test_skip_gives_a_bad_sample(reason: str, tmp_path: Path):
    bad = damaged(tmp_path, DAMAGE[reason], on_error='skip', name='toy')[2]
    assert isinstance(bad, BadSample)
    assert (bad.dataset, bad.index, bad.path) == ('toy', 2, str(tmp_path / '2.png'))
    assert reason in bad.reason


@pytest.mark.parametrize('reason', DAMAGE)
def test_replace_takes_the_same_other_sample_each_time(reason: str, tmp_path: Path):
    dataset = damaged(tmp_path, DAMAGE[reason], on_error='replace')
    items = [dataset[SampleIndex(2, epoch, 0)] for epoch in (0, 1)]
    used = {item['data_samples'].index for item in items}
    assert len(used) == 1 and used < {0, 1, 3, 4}
    assert [bad.index for bad in items[0]['bad_samples']] == [2] and reason in items[0]['bad_samples'][
        0
    ].reason
    chosen = {dataset[SampleIndex(2, 0, seed)]['data_samples'].index for seed in range(20)}
    assert len(chosen) > 1  # another seed may choose another


def test_a_label_out_of_range_stops_at_once_or_follows_the_policy(tmp_path: Path):
    arguments = dict(write_image_list(tmp_path), num_classes=2)
    with pytest.raises(
        DataError, match=r'label 2 of sample 2 .*00000003.JPEG.* outside its 2 classes \(0 to 1\)'
    ):
        ImageListDataset(**arguments)
    assert 'label 2' in ImageListDataset(**arguments, on_error='skip')[2].reason
    replaced = ImageListDataset(**arguments, on_error='replace')[2]
    assert replaced['data_samples'].gt_label.item() < 2


def test_when_all_replacements_are_bad_the_sample_is_bad(tmp_path: Path):
    arguments = write_image_list(tmp_path)
    for file in tmp_path.glob('*.JPEG'):
        file.unlink()
    assert isinstance(ImageListDataset(**arguments, on_error='replace')[0], BadSample)


@pytest.mark.parametrize('on_error', ['skip', 'replace'])
def test_bad_samples_reach_the_ledger_through_workers(on_error: str, tmp_path: Path):
    dataset = damaged(tmp_path / 'data', b'text', on_error=on_error)
    loader = DataLoader(
        dataset, 5, sampler=EpochSampler(dataset, seed=0), num_workers=1, collate_fn=collate_samples
    )
    ledger = Ledger(tmp_path / 'bad_samples.jsonl')
    seen = 0
    for batch in loader:
        seen += len(batch['inputs'])
        ledger.update(batch['bad_samples'], 5)
    assert seen == (4 if on_error == 'skip' else 5)
    assert [json.loads(line)['index'] for line in ledger.path.read_text().splitlines()] == [2]


def test_plain_indices_take_the_epoch_from_set_epoch(tmp_path: Path):
    dataset = damaged(tmp_path, image_bytes(), transform=[v2.RandomResizedCrop(8)])
    dataset.set_epoch(3)
    assert torch.equal(dataset[1]['inputs'], dataset[SampleIndex(1, 3)]['inputs'])
    assert dataset[1]['data_samples'].epoch == 3


def test_faults_of_a_transform_are_never_taken_for_bad_data(tmp_path: Path):
    def broken(image):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        damaged(tmp_path, image_bytes(), transform=[broken], on_error='skip')[0]


def test_pictures_a_transform_refuses_are_bad_samples_with_their_path(tmp_path: Path):
    transform = [dict(type='ResizeShortSide', size=448)]
    strip = image_bytes(size=(2_000, 1))
    with pytest.raises(DataError, match=r'2\.png: 2000×1 pixels, so oblong'):
        damaged(tmp_path, strip, transform=transform)[2]
    bad = damaged(tmp_path, strip, transform=transform, on_error='skip')[2]
    assert isinstance(bad, BadSample) and '2.png: 2000×1 pixels' in bad.reason


def test_an_unknown_policy_is_refused(tmp_path: Path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / '0.png').write_bytes(image_bytes())
    with pytest.raises(ConfigError, match="on_error='skipp' is no policy.*Did you mean 'skip'"):
        ImageFolderDataset(str(tmp_path), on_error='skipp')
