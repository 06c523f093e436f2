"""Benchmarks with layouts of their own: labels, corrections against the published runs, and what is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from internvl_mm.data.datasets import (
    Caltech101Dataset,
    ObjectNetDataset,
    OnePerImage,
    TarShardDataset,
    TorchvisionDataset,
    VOCObjectsDataset,
    XTDDataset,
)
from internvl_mm.utils.errors import DataError
from tests.cases import write_tar_shards
from tests.zero_shot_cases import write_caltech101, write_food101, write_objectnet, write_voc, write_xtd


def test_objectnet_keeps_the_overlap_and_removes_the_border(tmp_path: Path) -> None:
    where = write_objectnet(tmp_path)
    right, published = ObjectNetDataset(**where), ObjectNetDataset(**where, published=True)
    assert right.classes == ('banana', 'chair', 'coffee mug'), 'in the order of the folders, key left out'
    assert [Path(right.path(index)).parent.name for index in range(3)] == ['banana', 'chair', 'mug']
    assert right[0]['inputs'].shape == (3, 16, 20) and published[0]['inputs'].shape == (3, 20, 24)
    assert (right[0]['inputs'] == published[0]['inputs'][:, 2:-2, 2:-2]).all()
    assert right.fingerprint() != published.fingerprint()
    (tmp_path / 'mappings' / 'objectnet_to_imagenet_1k.json').write_text('{}')
    with pytest.raises(DataError, match='no class that the mappings give'):
        ObjectNetDataset(**where)
    (tmp_path / 'mappings' / 'objectnet_to_imagenet_1k.json').unlink()
    with pytest.raises(DataError, match='it comes with objectnet-1.0'):
        ObjectNetDataset(**where)


def test_caltech_background_is_no_class_but_was_in_the_published_runs(tmp_path: Path) -> None:
    where = write_caltech101(tmp_path)
    right, published = Caltech101Dataset(**where), Caltech101Dataset(**where, published=True)
    assert right.classes == ('Faces', 'ant', 'wrench') and right.targets.tolist() == [0, 1, 2]
    assert published.classes[0] == 'BACKGROUND_Google' and published.targets.tolist() == [0, 1, 2, 3]


def test_voc_objects_are_cut_out(tmp_path: Path) -> None:
    dataset = VOCObjectsDataset(**write_voc(tmp_path))
    assert [dataset.classes[label] for label in dataset.targets] == ['dog', 'cat', 'car']
    assert [tuple(dataset[index]['inputs'].shape) for index in range(3)] == [
        (3, 11, 10),
        (3, 8, 8),
        (3, 12, 16),
    ]
    (tmp_path / 'Annotations' / '000001.xml').write_text(
        '<annotation><object><name>unicorn</name></object></annotation>'
    )
    with pytest.raises(DataError, match='000001.xml: not an annotation'):
        VOCObjectsDataset(root=str(tmp_path))
    sides = ''.join(f'<{side}>{at}</{side}>' for side, at in dict(xmin=9, ymin=1, xmax=9, ymax=5).items())
    (tmp_path / 'Annotations' / '000001.xml').write_text(
        f'<annotation><object><name>cat</name><bndbox>{sides}</bndbox></object></annotation>'
    )
    with pytest.raises(DataError, match='000001.xml: .*the box 9, 1, 9, 5 is inverted or empty'):
        VOCObjectsDataset(root=str(tmp_path))
    with pytest.raises(DataError, match="lists the pictures of 'train'"):
        VOCObjectsDataset(root=str(tmp_path), split='train')


def test_torchvision_sets_know_labels_and_names(tmp_path: Path) -> None:
    dataset = TorchvisionDataset(**write_food101(tmp_path))
    assert dataset.classes == ('apple_pie', 'ice_cream', 'sushi') and dataset.targets.tolist() == [0, 1, 2]
    (tmp_path / 'food-101' / 'images' / 'sushi' / '2.jpg').write_bytes(b'no picture')
    with pytest.raises(DataError, match=r'Food101\[2\]: the picture cannot be read'):
        dataset[2]
    with pytest.raises(DataError, match="EuroSAT has no split='train'"):
        TorchvisionDataset('EuroSAT', str(tmp_path), split='train')
    with pytest.raises(DataError, match="kind='CIFAR' is none of CIFAR10, .*Did you mean 'CIFAR10'"):
        TorchvisionDataset('CIFAR', str(tmp_path))
    with pytest.raises(DataError, match="split='val': use 'test'"):
        TorchvisionDataset('Food101', str(tmp_path), split='val')
    with pytest.raises(DataError, match='does not hold STL10 as torchvision reads it.*download=True'):
        TorchvisionDataset('STL10', str(tmp_path))


def test_a_star_stands_for_the_shards_that_are_there(tmp_path: Path) -> None:
    write_tar_shards(tmp_path)
    assert len(TarShardDataset(str(tmp_path / '*.tar'), num_classes=3)) == 3
    with pytest.raises(DataError, match='do not exist'):
        TarShardDataset(str(tmp_path / 'no-*.tar'), num_classes=3)


def test_xtd_shares_pictures_between_languages(tmp_path: Path) -> None:
    where = write_xtd(tmp_path, dict(en=[' a ', 'b\u2028b', 'c'], zh=['一', '二', '三'], ko=['a', 'b']))
    english, chinese = XTDDataset(**where, name='xtd'), XTDDataset(**where, name='xtd', language='zh')
    assert [english[index]['data_samples'].caption for index in range(3)] == ['a', 'b\u2028b', 'c']
    assert 'train2014' in english.path(1) and 'val2014' in english.path(2)
    assert english.fingerprint() != chinese.fingerprint()
    assert OnePerImage(english).fingerprint() == OnePerImage(chinese).fingerprint()
    assert len(OnePerImage(english)) == 3 and OnePerImage(english)[1]['inputs'].shape == (3, 20, 24)
    with pytest.raises(DataError, match='3 images but 2 captions'):
        XTDDataset(**where, language='ko')
    with pytest.raises(DataError, match="language='cn'.*Did you mean 'zh'"):
        XTDDataset(**where, language='cn')
    with pytest.raises(DataError, match='where it is published'):
        XTDDataset(**where, language='pl')
