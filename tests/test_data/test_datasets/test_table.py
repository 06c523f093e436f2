from __future__ import annotations

import io
from pathlib import Path

import datasets as hf
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from internvl_mm.data.datasets import TableDataset
from internvl_mm.utils.errors import DataError
from tests.cases import image_bytes, write_table


def pictures() -> list[Image.Image]:
    return [Image.open(io.BytesIO(image_bytes(shade))) for shade in range(3)]


@pytest.mark.parametrize('form', ['parquet file', 'parquet folder', 'save_to_disk'])
def test_tables_written_by_datasets_are_read(form: str, tmp_path: Path):
    features = hf.Features(image=hf.Image(), label=hf.ClassLabel(names=['cat', 'dog']))
    table = hf.Dataset.from_dict(dict(image=pictures(), label=[0, 1, 1]), features=features)
    path = tmp_path / 'table'
    path.mkdir()
    if form == 'save_to_disk':
        table.save_to_disk(path)
    else:
        table.select([0, 1]).to_parquet(path / '0.parquet')
        table.select([2]).to_parquet(path / '1.parquet')
    dataset = TableDataset(str(path / '0.parquet' if form == 'parquet file' else path))
    assert dataset.classes == ('cat', 'dog')
    assert dataset.targets.tolist() == ([0, 1] if form == 'parquet file' else [0, 1, 1])
    for index in range(len(dataset)):
        assert np.array_equal(
            dataset[index]['inputs'].permute(1, 2, 0).numpy(), np.asarray(pictures()[index])
        )


def write_columns(folder: Path, **columns) -> str:
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / 't.parquet')
    return str(folder / 't.parquet')


def test_plain_bytes_and_other_column_names_are_fine(tmp_path: Path):
    path = write_columns(tmp_path, jpg=[image_bytes(0), image_bytes(1)], y=[1, 0])
    dataset = TableDataset(path, num_classes=2, image_column='jpg', label_column='y')
    assert dataset.targets.tolist() == [1, 0] and dataset[1]['data_samples'].path == f'{path}[1]'


def test_files_named_in_a_table_are_looked_for_beside_it_and_nowhere_else(tmp_path: Path):
    (tmp_path / 'a.png').write_bytes(image_bytes())
    images = [dict(bytes=None, path=path) for path in ('a.png', '/etc/hostname', '../a.png')]
    dataset = TableDataset(write_columns(tmp_path, image=images, label=[0, 0, 0]), num_classes=1)
    assert dataset[0]['inputs'].shape == (3, 16, 20)
    for index in (1, 2):
        with pytest.raises(DataError, match='leads out of the root folder'):
            dataset[index]


def test_missing_columns_are_named_with_a_hint(tmp_path: Path):
    path = write_columns(tmp_path, image=[image_bytes()], labels=[0])
    with pytest.raises(
        DataError, match="label_column='label' is not among its columns.*Did you mean 'labels'"
    ):
        TableDataset(path, num_classes=1)


def test_columns_of_another_type_are_refused(tmp_path: Path):
    for label in (['cat'], [0.5], [[0]]):
        with pytest.raises(DataError, match="column 'label' holds .* instead of one class index per row"):
            TableDataset(write_columns(tmp_path, image=[image_bytes()], label=label), num_classes=1)
    dataset = TableDataset(write_columns(tmp_path, image=['text'], label=[0]), num_classes=1)
    with pytest.raises(DataError, match=r"t.parquet\[0\]: column 'image' holds str, not an image"):
        dataset[0]


def test_the_number_of_classes_has_to_be_known_and_to_agree(tmp_path: Path):
    with pytest.raises(DataError, match="column 'label' has no class names; give num_classes"):
        TableDataset(str(write_table(tmp_path)['path']))
    features = hf.Features(image=hf.Image(), label=hf.ClassLabel(names=['cat', 'dog']))
    hf.Dataset.from_dict(dict(image=pictures()[:1], label=[0]), features=features).to_parquet(
        tmp_path / 'n.parquet'
    )
    with pytest.raises(DataError, match='names 2 classes, but num_classes=3'):
        TableDataset(str(tmp_path / 'n.parquet'), num_classes=3)


def test_damaged_and_missing_tables_are_named(tmp_path: Path):
    path = Path(write_table(tmp_path)['path'])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="data.parquet': missing or damaged"):
        TableDataset(str(path), num_classes=3)
    with pytest.raises(DataError, match="gone.parquet': missing or damaged"):
        TableDataset(str(tmp_path / 'gone.parquet'), num_classes=3)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='holds no .parquet or .arrow file'):
        TableDataset(str(tmp_path / 'empty'), num_classes=3)
