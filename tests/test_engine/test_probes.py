"""Probes on cached features: schedules, equality of sweeps with single runs, k-NN."""

import pytest
import timm.scheduler
import torch

from internvl_mm.engine.features import FeatureSet
from internvl_mm.engine.probes import KNNProbe, SweepProbe, warmup_cosine
from internvl_mm.models.necks import AttentionPooling
from internvl_mm.utils.errors import ConfigError

from .test_features import WIDTH, digits, tiny_task


def separable(length: int, split: str, *shape: int) -> FeatureSet:
    """Features that carry the class of digits plus noise, so that a linear probe can find it."""
    dataset = digits(split, length=length)
    generator = torch.Generator().manual_seed(length)
    code = torch.randn(10, *shape, generator=torch.Generator().manual_seed(0))
    features = code[torch.from_numpy(dataset.targets)] + 0.3 * torch.randn(
        length, *shape, generator=generator
    )
    return FeatureSet(views=[(features, torch.arange(length))], dataset=dataset, grid=(2, 2))


def judge_of(tests):
    def judge(name, logits):
        return {f'{name}/top1': 100 * (logits.argmax(1) == tests[name].labels()).float().mean().item()}

    return judge


def test_warmup_cosine_equals_timm():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    peer = timm.scheduler.CosineLRScheduler(
        optimizer, t_initial=100, warmup_t=10, warmup_lr_init=0, t_in_epochs=False
    )
    factor = warmup_cosine(100, 10)
    for step in range(100):
        peer.step_update(step)
        assert 0.2 * factor(step) == pytest.approx(optimizer.param_groups[0]['lr'], abs=1e-12)


def test_numbers_of_neighbours_are_checked():
    for ks in ([], [0, 5]):
        with pytest.raises(ConfigError, match='at least one number of neighbours'):
            KNNProbe(ks)
    train = separable(20, 'train', 2 * WIDTH)
    with pytest.raises(ConfigError, match=r'probe.ks=\[5, 21\]: only 20 training features can vote'):
        KNNProbe([5, 21]).run(tiny_task(), train, {}, judge_of({}))


def test_every_candidate_equals_its_own_run():
    task, train = tiny_task(), separable(80, 'train', 2 * WIDTH)
    tests = {'digits': separable(40, 'test', 2 * WIDTH)}
    together = SweepProbe([0.01, 0.1], [0.0, 1e-3], epochs=3, batch_size=32)
    rows = together.run(task, train, tests, judge_of(tests))
    assert [row.setting for row in rows] == [
        dict(lr=0.01, weight_decay=0.0),
        dict(lr=0.01, weight_decay=1e-3),
        dict(lr=0.1, weight_decay=0.0),
        dict(lr=0.1, weight_decay=1e-3),
    ]
    alone = SweepProbe([0.1], [1e-3], epochs=3, batch_size=32).run(task, train, tests, judge_of(tests))[0]
    for ours, theirs in zip(rows[3].module.parameters(), alone.module.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert max(row.metrics['digits/top1'] for row in rows) > 90
    # The task itself is not trained.
    assert torch.equal(task.head.linear.bias, torch.zeros(10))


def test_a_last_sample_alone_joins_the_batch_before_it():
    # A batch norm refuses to train on it.
    probe = SweepProbe([0.1], batch_size=16)
    assert [len(batch) for batch in probe._batches(torch.arange(33))] == [16, 17]
    assert [len(batch) for batch in probe._batches(torch.arange(34))] == [16, 16, 2]
    test = separable(30, 'test', 2 * WIDTH)
    rows = probe.run(tiny_task(), separable(33, 'train', 2 * WIDTH), {'d': test}, judge_of({'d': test}))
    assert rows[0].metrics['d/top1'] > 90


def test_necks_that_train_see_token_sequences():
    task = tiny_task(AttentionPooling, num_heads=2)
    train, test = separable(100, 'train', 5, WIDTH), separable(30, 'test', 5, WIDTH)
    rows = SweepProbe([0.1], epochs=8, batch_size=20).run(task, train, {'d': test}, judge_of({'d': test}))
    assert rows[0].metrics['d/top1'] > 90
    assert any(name.startswith('neck.') for name, _ in rows[0].module.named_parameters())


def test_k_nearest_neighbours():
    train, test = separable(200, 'train', 8), separable(40, 'test', 8)
    rows = KNNProbe([1, 20]).run(tiny_task(), train, {'d': test}, judge_of({'d': test}))
    assert [row.setting for row in rows] == [dict(k=1), dict(k=20)]
    assert all(row.metrics['d/top1'] > 90 for row in rows)


def test_an_empty_sweep_is_refused():
    with pytest.raises(ConfigError, match='learning_rates'):
        SweepProbe([])
