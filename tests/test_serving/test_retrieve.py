"""Pictures found by text: the index, both searches, the page, and what is refused."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from internvl_mm.serving import image_index
from internvl_mm.serving.image_index import ImageIndex
from internvl_mm.utils.errors import CheckpointError, DataError
from tests.test_engine.tiny_zero_shot import write_model
from tests.zero_shot_cases import write_picture

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def door() -> ModuleType:
    spec = importlib.util.spec_from_file_location('door_retrieve', ROOT / 'tools' / 'retrieve.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / 'model')
    for number in range(3):
        write_picture(tmp_path / 'photos' / f'{number}.png', number)
    (tmp_path / 'photos' / 'broken.png').write_bytes(b'no picture')
    return tmp_path


def fake_faiss() -> SimpleNamespace:
    """What of faiss is used, with equal scores in an order of its own: the last first."""

    class IndexFlatIP:
        def __init__(self, dim: int):
            self.vectors = np.zeros((0, dim), np.float32)

        def add(self, vectors: np.ndarray) -> None:
            self.vectors = np.concatenate([self.vectors, vectors])

        def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
            scores = queries @ self.vectors.T
            order = np.lexsort((-np.arange(scores.shape[1])[None].repeat(len(scores), 0), -scores))[:, :count]
            return np.take_along_axis(scores, order, 1), order

    return SimpleNamespace(IndexFlatIP=IndexFlatIP)


def test_both_searches_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(40, 5, generator=draws), dim=1)
    vectors[7] = vectors[3]  # equal scores
    index = ImageIndex(vectors, tuple(map(str, range(40))), 'w')
    queries = vectors[[3, 11, 39]]
    monkeypatch.setattr(image_index, '_find_with_faiss', image_index._find)
    plain = index.search(queries, 6)
    assert len(index.search(queries, 99)[0]) == 40
    monkeypatch.undo()
    if importlib.util.find_spec('faiss') is None:
        monkeypatch.setitem(sys.modules, 'faiss', fake_faiss())
    scores, places = image_index._find_with_faiss(vectors, queries, 6)
    assert [[hit.path for hit in hits] for hits in plain] == [
        [str(p) for p in row] for row in places.tolist()
    ]
    assert torch.allclose(scores, torch.tensor([[hit.score for hit in hits] for hits in plain]), atol=1e-6)
    assert [hit.path for hit in plain[0][:2]] == ['3', '7'] and plain[1][0].path == '11'


def test_an_index_is_built_searched_again_and_refused_for_other_weights(
    place: Path, door: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    size = ['--cfg-options', 'benchmarks.flickr30k.dataloader.dataset.transform.0.size=56']
    model = ['--checkpoint', 'model']
    assert door.main(['photos', *model, *size]) == 0
    said = ' '.join(capsys.readouterr().out.split())
    assert '1 of 4 pictures could not be read' in said and '3 pictures in pictures.safetensors' in said
    # Also more broken ones in a row than a batch has, and than training forgives.
    (place / 'more').mkdir()
    write_picture(place / 'more' / 'z.png', 7)
    for number in range(130):
        (place / 'more' / f'{number:03d}.png').write_bytes(b'no picture')
    assert door.main(['more', *model, '--index', 'more.safetensors', *size]) == 0
    assert '130 of 131 pictures could not be read' in ' '.join(capsys.readouterr().out.split())
    # Pictures are opened as the benchmark opens them.
    decoder = 'benchmarks.flickr30k.dataloader.dataset.decoder'
    bound = [*size, f'{decoder}.type=ImageDecoder', f'{decoder}.max_pixels=100']
    assert door.main(['photos', *model, '--index', 'bounded.safetensors', *bound]) == 2
    assert 'photos/0.png: 24×20 pixels in the header, more than max_pixels=100' in capsys.readouterr().err
    assert door.main([*model, '--query', 'a face', 'happy ' * 90, '--top', '2', *size]) == 0
    assert '1 queries have more than 80 tokens' in ' '.join(capsys.readouterr().out.split())
    page = (place / 'hits.html').read_text('utf-8')
    assert page.count('data:image/jpeg;base64,') == 4 and 'a face' in page and '3 pictures searched' in page
    # A path of the index that is gone is told on the page.
    for file in (place / 'photos').glob('*.png'):
        file.unlink()
    assert door.main([*model, '--query', 'a face', *size]) == 0
    assert 'the file is gone' in (place / 'hits.html').read_text('utf-8')
    # InternVL-G embeds pictures otherwise, as does another mean of pixels: those are not the vectors of the index.
    for change in ('model.image_mode=InternVL-G', 'model.data_preprocessor.mean=[0.5,0.5,0.5]'):
        assert door.main([*model, '--query', 'a face', *size, change]) == 2
        told = ' '.join(capsys.readouterr().err.split())
        assert 'was made with weights' in told and 'but the model has weights' in told
    assert door.main([*model, '--query', ' ', *size]) == 2
    assert 'a query is empty' in capsys.readouterr().err


def test_files_that_are_no_index_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: ModuleType
) -> None:
    (tmp_path / 'index').write_text('no index')
    with pytest.raises(DataError, match='is no index of pictures'):
        ImageIndex.load(tmp_path / 'index', weights='a')
    ImageIndex(torch.eye(2), ('x', 'y'), 'aaaa').save(tmp_path / 'index')
    assert ImageIndex.load(tmp_path / 'index', weights='aaaa').paths == ('x', 'y')
    with pytest.raises(CheckpointError, match='weights aaaa, but the model has weights bbbb'):
        ImageIndex.load(tmp_path / 'index', weights='bbbb')
    (tmp_path / 'folder').write_text('')
    with pytest.raises(DataError, match='was not written'):
        ImageIndex(torch.eye(2), ('x', 'y'), 'a').save(tmp_path / 'folder' / 'index')
    with pytest.raises(SystemExit):
        door.main([])
    with pytest.raises(SystemExit):
        door.main(['photos', '--top', '0'])
