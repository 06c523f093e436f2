from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from internvl_mm.data.datasets import TarShardDataset
from internvl_mm.utils.errors import DataError
from tests.cases import image_bytes, write_tar_shards


def write_tar(path: Path, members: dict[str, bytes], mode: str = 'w') -> str:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return str(path)


def test_shards_written_by_webdataset_are_read_in_order(tmp_path: Path):
    images = [np.full((8, 8, 3), 40 * number, np.uint8) for number in range(5)]
    with webdataset.ShardWriter(str(tmp_path / 's-%03d.tar'), maxcount=2, verbose=0) as writer:
        for number, image in enumerate(images):
            writer.write({'__key__': f'part/sample{number}', 'png': image, 'cls': number})
    dataset = TarShardDataset(str(tmp_path / 's-{000..002}.tar'), num_classes=5)
    assert dataset.targets.tolist() == list(range(5))
    for index in (4, 0, 2):  # any order
        assert np.array_equal(dataset[index]['inputs'].permute(1, 2, 0).numpy(), images[index])
    assert dataset.path(4) == f'{tmp_path}/s-002.tar/part/sample4.png'


def test_members_come_in_any_order_with_either_label(tmp_path: Path):
    members = {
        'a.json': json.dumps(dict(target=1)).encode(),
        'a.seg.png': b'',
        'a.PNG': image_bytes(),
        'a.txt': b'',
    }
    shard = write_tar(tmp_path / 's.tar', members)
    dataset = TarShardDataset([shard], num_classes=2, label_key='target')
    assert dataset.targets.tolist() == [1] and dataset[0]['inputs'].shape == (3, 16, 20)


@pytest.mark.parametrize(
    ('members', 'problem'),
    [
        ({'a.png': b''}, r"s.tar/a: has members \['png'\]; a sample needs an image .* and a label"),
        ({'a.cls': b'0'}, r"has members \['cls'\]"),
        ({'a.png': b'', 'a.cls': b'cat'}, "its label is b'cat' instead of a class index"),
        ({'a.png': b'', 'a.json': b'{"x": 1}'}, "instead of JSON with a class index under 'label'"),
        ({'a.png': b'', 'a.json': b'[1]'}, 'instead of JSON with a class index'),
        ({'a.png': b'', 'a.cls': b'9'}, r'label 9 of sample 0 \(.*s.tar/a.png\)'),
        ({}, 'has no samples'),
    ],
)
def test_incomplete_samples_are_named(members: dict[str, bytes], problem: str, tmp_path: Path):
    with pytest.raises(DataError, match=problem):
        TarShardDataset(write_tar(tmp_path / 's.tar', members), num_classes=2)


def test_damaged_and_compressed_shards_are_named(tmp_path: Path):
    shard = tmp_path / 's.tar'
    write_tar(shard, {'a.png': image_bytes(), 'a.cls': b'0', 'b.png': image_bytes(), 'b.cls': b'1'})
    whole = shard.read_bytes()
    for broken in (whole[:1600], b'\x07' * 2048, b''):
        shard.write_bytes(broken)
        with pytest.raises(DataError, match='s.tar: damaged, or not an uncompressed tar file'):
            TarShardDataset(str(shard), num_classes=2)
    write_tar(shard, {'a.png': image_bytes(), 'a.cls': b'0'}, 'w:gz')
    with pytest.raises(DataError, match='unpack a compressed one'):
        TarShardDataset(str(shard), num_classes=2)


def test_missing_shards_are_counted(tmp_path: Path):
    write_tar_shards(tmp_path)
    with pytest.raises(DataError, match=r'2 of 4 shards .* do not exist, the first: .*s-2.tar'):
        TarShardDataset(str(tmp_path / 's-{0..3}.tar'), num_classes=3)


def test_a_shard_that_disappears_later_is_a_bad_sample(tmp_path: Path):
    dataset = TarShardDataset(**write_tar_shards(tmp_path), on_error='skip')
    (tmp_path / 's-1.tar').unlink()
    assert 's-1.tar: cannot be read' in dataset[2].reason


def test_a_damaged_image_is_named_by_shard_and_member(tmp_path: Path):
    shard = write_tar(tmp_path / 's.tar', {'a.png': image_bytes()[:60], 'a.cls': b'0'})
    with pytest.raises(DataError, match='s.tar/a.png: truncated or damaged'):
        TarShardDataset(shard, num_classes=1)[0]


def test_nothing_is_unpacked(tmp_path: Path):
    """A member that wants to leave its folder is only bytes to us."""
    shard = write_tar(tmp_path / 's.tar', {'../../evil.png': image_bytes(3), '../../evil.cls': b'0'})
    item = TarShardDataset(shard, num_classes=1)[0]
    expected = np.asarray(Image.open(io.BytesIO(image_bytes(3))))
    assert np.array_equal(item['inputs'].permute(1, 2, 0).numpy(), expected)
    assert [file.name for file in tmp_path.iterdir()] == ['s.tar']
