"""Embeddings of texts: what a direct computation gives, grouped, shared by processes, named by content."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from internvl_mm.engine import text_features
from internvl_mm.engine.features import WeightHashes
from internvl_mm.engine.text_features import TextCache, embed_sentences
from internvl_mm.models.tasks import ContrastivePretraining
from internvl_mm.utils.errors import DataError
from tests.cases import TASK_CASES

GROUPS = [['a red 3.', 'two 5'], ['a red 3.', 'a red 3.', 'two 5'], ['nothing at all'], ['two 5']]


@pytest.fixture
def task() -> ContrastivePretraining:
    torch.manual_seed(0)
    return ContrastivePretraining(**TASK_CASES[ContrastivePretraining]).eval()


def direct(task: ContrastivePretraining, group: list[str]) -> torch.Tensor:
    """One sentence at a time."""
    with torch.no_grad():
        rows = [F.normalize(task.encode_texts([text], torch.device('cpu'))[0], dim=0) for text in group]
    return F.normalize(torch.stack(rows).mean(0), dim=0)


def test_groups_are_means_of_unit_vectors_and_repeated_sentences_weigh_more(task, tmp_path: Path) -> None:
    found = TextCache(tmp_path).embed(task, GROUPS, what='toy')
    for vector, group in zip(found.vectors, GROUPS, strict=True):
        torch.testing.assert_close(vector, direct(task, group), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found.vectors[0], found.vectors[1])
    assert found.computed == 4 and found.cut.tolist() == [0, 0, 0, 0]
    # Another object reads what is there; another order and other neighbours do not matter.
    again = TextCache(tmp_path).embed(task, [GROUPS[2], ['new'], GROUPS[0]], what='toy')
    assert again.computed == 1
    assert torch.equal(again.vectors[::2], found.vectors[[2, 0]])


def test_batches_by_length_change_nothing(task, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = ['1', 'two 2', 'a sentence of more than a few tokens', '3 3 3', 'x' * 400]
    whole, cut = embed_sentences(task, sentences)
    monkeypatch.setattr(text_features, 'BATCH_TOKENS', 1)
    single, _ = embed_sentences(task, sentences)
    torch.testing.assert_close(whole, single, atol=1e-5, rtol=1e-4)
    assert cut.tolist() == [False, False, False, False, True]


def test_other_weights_and_other_limits_are_other_texts(task, tmp_path: Path) -> None:
    cache = TextCache(tmp_path)
    cache.embed(task, GROUPS, what='toy')
    with torch.no_grad():
        task.text_encoder.text_projection.add_(0.1)
    assert cache.embed(task, GROUPS, what='toy').computed == 4
    task.tokenizer.max_length = 20
    assert cache.embed(task, GROUPS, what='toy').computed == 4
    # The same weights under another norm.
    task.text_encoder.transformer.norm.variance_epsilon = 0.5
    assert cache.embed(task, GROUPS, what='toy').computed == 4
    with torch.no_grad():  # images do not matter to texts
        task.neck.pool.norm1_q.weight.add_(1)
    assert cache.embed(task, GROUPS, what='toy').computed == 0


def test_weights_are_hashed_again_only_when_they_change(task, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        'internvl_mm.engine.features.hash_tensors', lambda tensors: calls.append(1) or str(len(calls))
    )
    hashes = WeightHashes()
    first = hashes.hash(task.text_tensors())
    assert hashes.hash(task.text_tensors()) == first and len(calls) == 1
    with torch.no_grad():
        task.text_encoder.text_projection.mul_(2)
    assert hashes.hash(task.text_tensors()) != first and len(calls) == 2


def test_processes_share_the_work_as_the_first_one_sees_it(task, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(text_features, 'SHARD_SENTENCES', 1)
    written, shared = [], []

    def broadcast(values: list) -> None:
        values[0] = shared[0] if shared else values[0]
        shared.append(values[0])

    def second_process() -> None:
        if len(shared) == 1:
            monkeypatch.setattr(text_features, 'get_dist_info', lambda: (1, 2))
            TextCache(tmp_path).embed(task, GROUPS, what='toy')

    real = text_features.write_shard
    monkeypatch.setattr(text_features, 'write_shard', lambda *a: written.append(1) or real(*a))
    monkeypatch.setattr(text_features, 'broadcast_object_list', broadcast)
    monkeypatch.setattr(text_features, 'get_dist_info', lambda: (0, 2))
    monkeypatch.setattr(text_features, 'barrier', second_process)
    found = TextCache(tmp_path).embed(task, GROUPS, what='toy')
    assert len(written) == 4 and len(shared[0]) == 4, 'each file by one process'
    torch.testing.assert_close(found.vectors[3], direct(task, GROUPS[3]), atol=1e-5, rtol=1e-4)


def test_a_broken_file_is_named(task, tmp_path: Path) -> None:
    TextCache(tmp_path).embed(task, GROUPS, what='toy')
    (file,) = tmp_path.rglob('*.safetensors')
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DataError, match=f'{file.name}.*delete it'):
        TextCache(tmp_path).embed(task, GROUPS, what='toy')
