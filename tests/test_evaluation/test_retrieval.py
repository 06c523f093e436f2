"""Recall and zero-shot accuracy against loops over every query."""

from __future__ import annotations

import pytest
import torch

from internvl_mm.evaluation.metrics import RetrievalRecall, ZeroShotAccuracy, retrieval
from internvl_mm.utils.errors import ConfigError


def pairs(images: int = 7, captions: int = 3) -> list[dict]:
    """Pairs in which captions of an image are near it, and two images share a caption."""
    draws = torch.Generator().manual_seed(0)
    centres = torch.randn(images, 6, generator=draws)
    found = []
    for image in range(images):
        for number in range(captions):
            shared = number == 0 and image < 2
            text = 'shared' if shared else f'{image} {number}'
            noise = torch.randn(
                6, generator=torch.Generator().manual_seed(1 if shared else 10 * image + number + 2)
            )
            vector = (centres[0] if shared else centres[image]) + 1.5 * noise
            found.append(
                dict(
                    dataset='toy',
                    index=len(found),
                    image_id=image,
                    caption=text,
                    pred_image=centres[image] / centres[image].norm(),
                    pred_text=vector / vector.norm(),
                )
            )
    return found


def recall_by_hand(samples: list[dict], k: int, queries: str, answers: str) -> float:
    """Share of queries with a pair of theirs among the k most similar answers."""
    key = dict(image='image_id', text='caption')
    vectors = {side: {s[key[side]]: s[f'pred_{side}'] for s in samples} for side in key}
    belongs = {(s[key[queries]], s[key[answers]]) for s in samples}
    hits = 0
    for query, vector in vectors[queries].items():
        order = sorted(vectors[answers], key=lambda other: -float(vector @ vectors[answers][other]))
        hits += any((query, other) in belongs for other in order[:k])
    return 100.0 * hits / len(vectors[queries])


@pytest.mark.parametrize('chunk', [2, 1024])
def test_recall_is_what_loops_count(monkeypatch, chunk: int) -> None:
    monkeypatch.setattr(retrieval, 'CHUNK', chunk)
    metric, samples = RetrievalRecall(topk=(1, 2, 50)), pairs()
    metric.process(None, samples)
    found = metric.evaluate(len(samples))
    assert (found['images'], found['texts'], found['n']) == (7, 20, 21)
    for k in (1, 2):
        assert found[f'i2t_r{k}'] == pytest.approx(recall_by_hand(samples, k, 'image', 'text'))
        assert found[f't2i_r{k}'] == pytest.approx(recall_by_hand(samples, k, 'text', 'image'))
    assert 0 < found['t2i_r1'] < 100 and found['t2i_r50'] == 100


def test_mean_per_class_weighs_classes_equally() -> None:
    scores = torch.eye(3)
    samples = [
        dict(dataset='toy', index=index, gt_label=torch.tensor([label]), pred_logits=scores[guess])
        for index, (label, guess) in enumerate([(0, 0), (0, 0), (0, 0), (1, 0)])
    ]
    metric = ZeroShotAccuracy()
    metric.process(None, samples)
    found = metric.evaluate(4)
    assert (found['top1'], found['mean_per_class'], found['n']) == (75.0, 50.0, 4)
    assert 'top5' not in found, 'there are three classes'


def test_what_is_missing_is_told() -> None:
    bare = [dict(dataset='toy', index=0, gt_label=torch.tensor([0]))]
    with pytest.raises(ConfigError, match='name the data set in model.class_prompts'):
        ZeroShotAccuracy().score(bare)
    with pytest.raises(ConfigError, match='RetrievalRecall needs an image–text task'):
        RetrievalRecall().score(bare)
    with pytest.raises(ConfigError, match=r'topk=\(0,\)'):
        RetrievalRecall(topk=(0,))
