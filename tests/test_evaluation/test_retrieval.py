"""Recall and zero-shot accuracy against loops over every query."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from clip_benchmark.metrics.zeroshot_classification import accuracy
from clip_benchmark.metrics.zeroshot_retrieval import recall_at_k
from sklearn.metrics import balanced_accuracy_score

from internvl_mm.evaluation.metrics import RetrievalRecall, ZeroShotAccuracy, retrieval
from internvl_mm.utils.errors import ConfigError, DataError


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
    assert set(found) == set(metric.reported())
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
    assert set(found) <= set(metric.reported())
    with pytest.raises(ConfigError, match=r'topk=\(5,\) lacks 1'):
        ZeroShotAccuracy(topk=(5,))


def test_what_is_missing_is_told() -> None:
    bare = [dict(dataset='toy', index=0, gt_label=torch.tensor([0]))]
    with pytest.raises(ConfigError, match='name the data set in model.class_prompts'):
        ZeroShotAccuracy().score(bare)
    with pytest.raises(ConfigError, match='RetrievalRecall needs an image–text task'):
        RetrievalRecall().score(bare)
    with pytest.raises(ConfigError, match=r'topk=\(0,\)'):
        RetrievalRecall(topk=(0,))
    broken = dict(pairs()[3], pred_text=torch.full((6,), float('nan')))
    with pytest.raises(DataError, match=r"pair 3 of 'toy' are not numbers \(NaN\)"):
        RetrievalRecall().score([pairs()[0], broken])


def test_recall_of_every_caption_is_what_clip_benchmark_counts() -> None:
    """On random features, each caption a text of its own."""
    images, captions, k = 11, 3, 4
    draws = torch.Generator().manual_seed(3)
    image = F.normalize(torch.randn(images, 6, generator=draws), dim=1)
    text = F.normalize(torch.randn(images * captions, 6, generator=draws), dim=1)
    owner = torch.arange(images).repeat_interleave(captions)
    samples = [
        dict(
            dataset='toy',
            index=i,
            image_id=int(owner[i]),
            caption='same',
            pred_image=image[owner[i]],
            pred_text=text[i],
        )
        for i in range(len(text))
    ]
    metric = RetrievalRecall(topk=(k,), published=True)
    metric.process(None, samples)
    found = metric.evaluate(len(samples))
    scores = text @ image.t()
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(text)), owner] = True
    for name, table, right in (('t2i', scores, positive), ('i2t', scores.t(), positive.t())):
        theirs = (recall_at_k(table, right, k) > 0).float().mean()
        assert found[f'{name}_r{k}'] / 100 == pytest.approx(float(theirs), abs=1e-6)
        assert found[f'{name}_r{k}_low'] <= found[f'{name}_r{k}'] <= found[f'{name}_r{k}_high']


def test_accuracy_is_what_clip_benchmark_counts() -> None:
    draws = torch.Generator().manual_seed(4)
    logits = torch.randn(97, 7, generator=draws)
    labels = torch.randint(0, 6, (97,), generator=draws)  # one class has no picture
    samples = [
        dict(dataset='toy', index=i, gt_label=labels[i : i + 1], pred_logits=logits[i]) for i in range(97)
    ]
    metric = ZeroShotAccuracy()
    metric.process(None, samples)
    found = metric.evaluate(97)
    top1, top5 = accuracy(logits, labels, topk=(1, 5))
    # What its mean_per_class_recall calls.
    expected = dict(top1=top1, top5=top5, mean_per_class=balanced_accuracy_score(labels, logits.argmax(1)))
    assert {name: found[name] / 100 for name in expected} == pytest.approx(expected, abs=1e-6)
    assert found['mean_per_class_low'] < found['mean_per_class'] < found['mean_per_class_high']
