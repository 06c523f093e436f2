"""Pictures to describe: every image once, with all that is true of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from internvl_mm.data.datasets import CaptioningDataset, DigitCaptioningDataset
from internvl_mm.data.digit_scenes.captions import describe
from internvl_mm.utils.errors import DataError
from tests.cases import image_bytes

KARPATHY = [dict(image='0.png', caption=['One.', 'Two.']), dict(image='1.png', caption=['Three.'])]
COCO = dict(
    images=[dict(id=7, file_name='0.png'), dict(id=9, image='1.png')],  # Flickr30k's file says 'image'
    annotations=[
        dict(id=1, image_id=7, caption='One.'),
        dict(id=2, image_id=9, caption='Three.'),
        dict(id=3, image_id=7, caption='Two.'),
    ],
)


def described(folder: Path, content: object, **options) -> CaptioningDataset:
    for shade in range(2):
        (folder / f'{shade}.png').write_bytes(image_bytes(shade))
    (folder / 'captions.json').write_text(json.dumps(content), 'utf-8')
    return CaptioningDataset(str(folder), str(folder / 'captions.json'), name='toy', **options)


@pytest.mark.parametrize('content', [KARPATHY, COCO], ids=['karpathy', 'coco'])
def test_every_image_comes_once_with_all_its_captions(tmp_path: Path, content: object) -> None:
    dataset = described(tmp_path, content)
    samples = [dataset[index]['data_samples'] for index in range(len(dataset))]
    assert [sample.references for sample in samples] == [['One.', 'Two.'], ['Three.']]
    assert [Path(sample.path).name for sample in samples] == ['0.png', '1.png']
    assert {sample.language for sample in samples} == {'en'}


def test_empty_references_are_left_out_and_images_without_any_told(tmp_path: Path) -> None:
    rows = [dict(image='0.png', caption=['One.', ' '])]
    assert described(tmp_path, rows)[0]['data_samples'].references == ['One.']
    late = [dict(image='0.png', caption=['', 'Two.', 'Three.'])]
    assert described(tmp_path, late)[0]['data_samples'].references == ['Two.', 'Three.']
    with pytest.raises(DataError, match=r'1\.png: nothing to compare with, all its captions are empty'):
        described(tmp_path, [*rows, dict(image='1.png', caption=[''])])


def test_digits_have_all_true_captions_of_a_language() -> None:
    dataset = DigitCaptioningDataset(split='test', name='toy', language='zh', kinds=(0, 1))
    sample = dataset[5]['data_samples']
    scene = dataset._scene(dataset_index(dataset, 5))
    assert sample.references == describe(scene, 'zh')[:2] and sample.language == 'zh'
    assert sample.caption in sample.references and f'{int(sample.gt_label)}' in sample.references[1]


def dataset_index(dataset: DigitCaptioningDataset, index: int):
    from internvl_mm.data.samplers import SampleIndex

    return SampleIndex(index, dataset.epoch)
