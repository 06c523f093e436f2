from __future__ import annotations

import json
from pathlib import Path

import pytest

from internvl_mm.data.datasets import ImageListDataset, ImageNetReaLDataset
from internvl_mm.data.datasets.image_list import read_list
from internvl_mm.utils.errors import DataError
from tests.cases import write_image_list, write_real


def test_lines_are_paths_and_labels(tmp_path: Path):
    (tmp_path / 'list.txt').write_text('n01/a b.JPEG 7\n\nn02/ü.png\t12\r\n', encoding='utf-8')
    assert read_list(str(tmp_path / 'list.txt')) == (['n01/a b.JPEG', 'n02/ü.png'], [7, 12])


@pytest.mark.parametrize('line', ['cat.jpg', 'cat.jpg dog', '7', 'cat.jpg 1.5'])
def test_malformed_lines_are_named(line: str, tmp_path: Path):
    (tmp_path / 'list.txt').write_text(f'a.jpg 0\n{line}\n')
    with pytest.raises(DataError, match=r"list.txt:2: .* is not 'relative/path label'"):
        read_list(str(tmp_path / 'list.txt'))


@pytest.mark.parametrize('path', ['/etc/passwd', '../secret.jpg', 'a/../../secret.jpg'])
def test_paths_stay_inside_the_root(path: str, tmp_path: Path):
    (tmp_path / 'list.txt').write_text(f'{path} 0\n')
    with pytest.raises(DataError, match='list.txt:1: .* leads out of the root folder'):
        ImageListDataset(str(tmp_path), str(tmp_path / 'list.txt'), num_classes=1)


def test_dots_that_stay_inside_are_fine(tmp_path: Path):
    (tmp_path / 'list.txt').write_text('a/../b..jpg 0\n')
    assert read_list(str(tmp_path / 'list.txt'))[0] == ['a/../b..jpg']


def test_negative_labels_are_out_of_range(tmp_path: Path):
    (tmp_path / 'list.txt').write_text('a.jpg -1\n')
    with pytest.raises(DataError, match='label -1 of sample 0'):
        ImageListDataset(str(tmp_path), str(tmp_path / 'list.txt'), num_classes=3)


def test_missing_files_and_empty_lists_are_named(tmp_path: Path):
    arguments = write_image_list(tmp_path)
    with pytest.raises(DataError, match='gone.txt: cannot be read'):
        ImageListDataset(**dict(arguments, list_file=str(tmp_path / 'gone.txt')))
    with pytest.raises(DataError, match="gone' does not exist; it should hold the images of the list"):
        ImageListDataset(**dict(arguments, root=str(tmp_path / 'gone')))
    (tmp_path / 'val.txt').write_text('\n')
    with pytest.raises(DataError, match='has no samples'):
        ImageListDataset(**arguments)
    (tmp_path / 'val.txt').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(DataError, match='cannot be read as text'):
        ImageListDataset(**arguments)


def test_real_labels_belong_to_file_numbers_not_lines(tmp_path: Path):
    arguments = write_real(tmp_path)
    lines = (tmp_path / 'val.txt').read_text().splitlines(keepends=True)
    (tmp_path / 'val.txt').write_text(''.join(reversed(lines)))
    samples = [item['data_samples'] for item in ImageNetReaLDataset(**arguments)]
    assert [sample.gt_labels.tolist() for sample in samples] == [[2], [1], [0, 2]]
    assert [sample.gt_label.item() for sample in samples] == [2, 1, 0]


def test_images_without_accepted_class_are_left_out(tmp_path: Path):
    arguments = write_real(tmp_path)
    (tmp_path / 'real.json').write_text('[[0, 2], [], [2]]')
    dataset = ImageNetReaLDataset(**arguments)
    assert (len(dataset), dataset.num_excluded) == (2, 1)
    assert dataset[1]['data_samples'].gt_labels.tolist() == [2] and dataset.path(1).endswith('00000003.JPEG')
    (tmp_path / 'real.json').write_text('[[], [], []]')
    with pytest.raises(DataError, match='accepts no class for any image'):
        ImageNetReaLDataset(**arguments)


def test_the_complete_set_keeps_46837_of_50000(tmp_path: Path):
    arguments = dict(write_real(tmp_path), num_classes=1000)
    (tmp_path / 'val.txt').write_text(
        ''.join(f'ILSVRC2012_val_{number:08d}.JPEG {number % 1000}\n' for number in range(1, 50_001))
    )
    (tmp_path / 'real.json').write_text(json.dumps([[]] * 3_163 + [[1]] * 46_837))
    dataset = ImageNetReaLDataset(**arguments)
    assert (len(dataset), dataset.num_excluded) == (46_837, 3_163)
    assert dataset.path(0).endswith('00003164.JPEG') and dataset.targets[0] == 164


@pytest.mark.parametrize(
    ('content', 'problem'),
    [
        ('[[0], [1', 'not JSON'),
        ('{"a": [1]}', 'should be a list of label lists'),
        ('[[0], [3], [1]]', r'labels \[3\] of image 2 are not all within 0 to 2'),
        ('[[0], [1]]', 'has no number from 1 to 2 at the end of its name'),
    ],
)
def test_damaged_real_labels_are_named(content: str, problem: str, tmp_path: Path):
    arguments = write_real(tmp_path)
    (tmp_path / 'real.json').write_text(content)
    with pytest.raises(DataError, match=problem):
        ImageNetReaLDataset(**arguments)
