"""Numbers of video benchmarks."""

from __future__ import annotations

import pytest
import torch

from internvl_mm.evaluation.metrics import DualSoftmaxRecall, VideoAccuracy
from tests.test_evaluation.test_retrieval import pairs


def test_the_mean_of_top_1_and_top_5() -> None:
    metric, draws = VideoAccuracy(), torch.Generator().manual_seed(0)
    samples = [
        dict(dataset='toy', index=index, gt_label=torch.tensor([index % 8]), pred_logits=logits)
        for index, logits in enumerate(torch.randn(24, 8, generator=draws))
    ]
    metric.process(None, samples)
    found = metric.evaluate(24)
    assert 0 < found['top1'] < found['top5'] < 100
    assert set(found) == set(metric.reported())
    assert found['mean_top1_top5'] == pytest.approx((found['top1'] + found['top5']) / 2)


def test_dual_softmax_is_the_published_product() -> None:
    samples = [sample for sample in pairs(images=7, captions=1) if sample['caption'] != 'shared']
    metric = DualSoftmaxRecall(topk=(1, 2))
    metric.process(None, samples)
    found = metric.evaluate(len(samples))
    videos, texts = (
        torch.stack([sample[f'pred_{side}'] for sample in samples]) for side in ('image', 'text')
    )
    scores = videos @ texts.T
    right = torch.arange(len(samples))
    for name, one in (('i2t', scores), ('t2i', scores.T)):
        # By the definition, one score at a time.
        weighted = torch.stack([row * (row.exp() / one.exp().sum(dim=0)) for row in one])
        for k in (1, 2):
            hits = (weighted.argsort(dim=1, descending=True)[:, :k] == right[:, None]).any(dim=1)
            assert found[f'{name}_r{k}'] == pytest.approx(100 * float(hits.float().mean()))
            assert found[f'{name}_r{k}_low'] <= found[f'{name}_r{k}'] <= found[f'{name}_r{k}_high']
    assert set(found) == set(metric.reported())
    assert found['n'] == found['images'] == found['texts'] == len(samples)
    assert metric.compute_metrics([]) == dict(n=0)
    # In a published run every caption is a query of its own, here too.
    twice = [*samples, dict(samples[0], index=len(samples) + 10, image_id=99)]
    for published, texts in ((False, len(samples)), (True, len(samples) + 1)):
        metric = DualSoftmaxRecall(published=published)
        metric.process(None, twice)
        assert metric.evaluate(len(twice))['texts'] == texts
