"""The code in docs/add_a_dataset.md runs."""

from __future__ import annotations

import re
from pathlib import Path

from internvl_mm.data.datasets import ImageFolderDataset
from internvl_mm.registry import DATASETS
from tests.cases import image_bytes


def blocks(repo: Path) -> list[str]:
    return re.findall(
        r'```python\n(.*?)```', (repo / 'docs' / 'add_a_dataset.md').read_text(encoding='utf-8'), re.DOTALL
    )


def test_the_config_builds(repo: Path, tmp_path: Path):
    names: dict = {}
    exec(blocks(repo)[0], names)  # noqa: S102
    config = dict(names['train_dataloader']['dataset'])
    (tmp_path / 'wren').mkdir()
    (tmp_path / 'wren' / '1.jpg').write_bytes(image_bytes())
    dataset = DATASETS.build(dict(config, root=str(tmp_path)))
    assert isinstance(dataset, ImageFolderDataset) and dataset[0]['inputs'].shape == (3, 448, 448)


def test_the_class_is_a_data_set(repo: Path, tmp_path: Path):
    names: dict = {'__name__': 'docs'}
    try:
        exec(blocks(repo)[1], names)  # noqa: S102
        for name in ('wren_1', 'robin_1'):
            (tmp_path / f'{name}.jpg').write_bytes(image_bytes())
        dataset = names['FileNameDataset'](str(tmp_path), classes=['wren', 'robin'], name='birds')
        assert [int(item['data_samples'].gt_label) for item in dataset] == [1, 0]
    finally:
        DATASETS.module_dict.pop('FileNameDataset', None)
