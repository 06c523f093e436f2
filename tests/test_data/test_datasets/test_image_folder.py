from __future__ import annotations

from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from internvl_mm.data.datasets import ImageFolderDataset
from internvl_mm.utils.errors import DataError
from tests.cases import image_bytes, write_image_folder


def write(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(image_bytes())
    return root


def test_order_and_labels_are_torchvisions(tmp_path: Path):
    write(tmp_path, 'b/2.png', 'b/10.png', 'a/x/1.JPG', 'a/0.png', 'Z/1.webp', 'ä/1.png')
    (tmp_path / 'a' / 'notes.txt').write_text('not an image')
    ours, theirs = ImageFolderDataset(str(tmp_path)), ImageFolder(tmp_path)
    assert [(ours.path(index), label) for index, label in enumerate(ours.targets.tolist())] == theirs.samples
    assert list(ours.classes) == theirs.classes


def test_hidden_folders_are_no_classes(tmp_path: Path):
    write(tmp_path, 'a/0.png', 'b/1.png', '.ipynb_checkpoints/2.png')
    assert ImageFolderDataset(str(tmp_path)).classes == ('a', 'b')


def test_integer_folders_are_class_numbers(tmp_path: Path):
    write(tmp_path, '10/a.png', '2/b.png', '0/c.png')
    dataset = ImageFolderDataset(str(tmp_path), labels='integer', num_classes=1000)
    assert {dataset.path(i).split('/')[-2]: int(dataset.targets[i]) for i in range(3)} == {
        '10': 10,
        '2': 2,
        '0': 0,
    }
    assert dataset.num_classes == 1000
    assert ImageFolderDataset(str(tmp_path), labels='integer').num_classes == 11
    with pytest.raises(DataError, match='label 10 .* outside its 5 classes'):
        ImageFolderDataset(str(tmp_path), labels='integer', num_classes=5)


def test_named_folders_are_not_integers(tmp_path: Path):
    with pytest.raises(DataError, match="class folder 'a', but labels='integer'"):
        ImageFolderDataset(**write_image_folder(tmp_path), labels='integer')


def test_missing_and_empty_folders_are_named(tmp_path: Path):
    with pytest.raises(
        DataError, match="gone' does not exist; it should hold one folder of images per class"
    ):
        ImageFolderDataset(str(tmp_path / 'gone'))
    with pytest.raises(DataError, match='holds no class folders'):
        ImageFolderDataset(str(tmp_path))
    write(tmp_path, 'cat/1.png')
    with pytest.raises(DataError, match="1.png' is a file, not a folder"):
        ImageFolderDataset(str(tmp_path / 'cat' / '1.png'))
    (tmp_path / 'dog').mkdir()
    with pytest.raises(DataError, match='dog'):
        ImageFolderDataset(str(tmp_path))


def test_another_number_of_classes_than_expected_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match='holds 3 class folders, but num_classes=200'):
        ImageFolderDataset(**write_image_folder(tmp_path), num_classes=200)
