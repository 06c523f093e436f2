"""Loops: where they begin, what benchmarks count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.hooks import Hook
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.samplers import EpochSampler, EvalSampler, StreamSampler
from internvl_mm.engine import loops
from internvl_mm.engine.loops import EpochTrainLoop, IterTrainLoop, batches, write_results
from internvl_mm.engine.runner import Runner
from internvl_mm.evaluation.metrics import Accuracy
from internvl_mm.utils.errors import ConfigError
from tests.test_engine.tiny import TinyImages, loader, tiny_config


@pytest.mark.parametrize('sampler', [EpochSampler, SequentialSampler])
@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('batched', [False, True])
def test_an_epoch_can_begin_at_any_batch(sampler: Any, workers: int, batched: bool) -> None:
    data = TinyImages(10)
    order = sampler(data, seed=0) if sampler is EpochSampler else sampler(data)
    drawn: Any = (
        dict(batch_sampler=BatchSampler(order, 3, False)) if batched else dict(batch_size=3, sampler=order)
    )
    loading = DataLoader(data, num_workers=workers, collate_fn=collate_samples, **drawn)

    def indices(done: int) -> list[list[int]]:
        return [[sample.index for sample in batch['data_samples']] for batch in batches(loading, done=done)]

    whole = indices(0)
    assert [len(batch) for batch in whole] == [3, 3, 3, 1]
    assert indices(2) == whole[2:]
    assert indices(4) == []
    assert indices(0) == whole  # skipping counts once


class SidesApart(BatchSampler):
    """Batches of samples below 3 or of others, as detection groups pictures by their aspect ratio."""

    def __iter__(self) -> Iterator[list[int]]:
        waiting: dict[bool, list[int]] = {False: [], True: []}
        for index in self.sampler:
            side = waiting[index < 3]
            side.append(index)
            if len(side) == self.batch_size:
                yield side[:]
                side.clear()


def test_a_batch_sampler_that_keeps_samples_for_later_begins_at_any_batch() -> None:
    data = TinyImages(10)
    drawn = SidesApart(EpochSampler(data, seed=0), 3, False)
    loading = DataLoader(data, batch_sampler=drawn, collate_fn=collate_samples)
    whole, rest = (
        [[sample.index for sample in batch['data_samples']] for batch in batches(loading, done=done)]
        for done in (0, 1)
    )
    assert len(whole) == 3 and rest == whole[1:]


def test_iterations_need_an_endless_order(work_dir: Path) -> None:
    config = tiny_config(work_dir, train_cfg=dict(type=IterTrainLoop, max_iters=3))
    with pytest.raises(ConfigError, match='EpochSampler ends after an epoch.*use StreamSampler'):
        Runner.from_cfg(config).train()


def test_epochs_need_an_order_that_ends(work_dir: Path) -> None:
    config = tiny_config(work_dir)
    config['train_dataloader']['sampler'] = dict(type=StreamSampler)
    with pytest.raises(ConfigError, match='StreamSampler never ends.*use EpochSampler'):
        Runner.from_cfg(config).train()


class StageRecorder(Hook):
    """Which evaluation hooks were called with which metrics."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.metrics: dict[str, float] = {}

    def before_val_epoch(self, runner: Any) -> None:
        self.calls.append('before')

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        assert batch_idx < len(runner.val_dataloader)
        self.calls.append('iter')

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        self.calls.append('after')
        self.metrics = metrics


def test_benchmarks_make_one_table(work_dir: Path) -> None:
    metrics = [dict(type=Accuracy, topk=(1,)), dict(type=Accuracy, topk=(2,), prefix='two')]
    config = tiny_config(
        work_dir,
        train_cfg=dict(type=EpochTrainLoop, max_epochs=2, val_begin=2),
        benchmarks={
            name: dict(dataloader=loader(length=length, batch_size=2, sampler=EvalSampler), metrics=metrics)
            for name, length in (('small', 3), ('large', 5), ('unused', 4))
        },
        val_benchmarks=['small', 'large'],
        test_benchmarks=['unused'],
    )
    runner, recorder = Runner.from_cfg(config), StageRecorder()
    runner.register_hook(recorder)
    runner.train()
    # Once after epoch 2: two batches of 'small', three of 'large', and one dict for both.
    assert recorder.calls == ['before', *['iter'] * 5, 'after']
    assert recorder.metrics['small/n'] == recorder.metrics['small/two/n'] == 3
    assert recorder.metrics['large/n'] == 5
    assert runner.test().keys() == {'unused/top1', 'unused/loss', 'unused/n'} | {
        'unused/two/top2',
        'unused/two/loss',
        'unused/two/n',
    }
    rows = json.loads((Path(runner.log_dir) / 'results.json').read_text())
    assert {row['benchmark']: row['n'] for row in rows} == dict(small=3, large=5, unused=4)
    assert not [row for row in rows if row['metric'].endswith('n')]


def test_results_keep_the_latest_of_each_number(tmp_path: Path) -> None:
    path = tmp_path / 'results.json'
    write_results(
        path, [dict(benchmark='a', metric='top1', value=1.0), dict(benchmark='b', metric='top1', value=2.0)]
    )
    write_results(path, [dict(benchmark='a', metric='top1', value=3.0)])
    assert [row['value'] for row in json.loads(path.read_text())] == [3.0, 2.0]
    assert [file.name for file in tmp_path.iterdir()] == ['results.json']


@pytest.mark.parametrize(('alive', 'kind'), [(False, RuntimeError), (True, ConnectionResetError)])
def test_a_worker_whose_death_nobody_told_is_named(
    alive: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        _workers = (SimpleNamespace(pid=321, is_alive=lambda: alive),)

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            raise ConnectionResetError('reset by peer')

    monkeypatch.setattr(loops, 'WORKER_GRACE', 0.0)
    with pytest.raises(
        kind, match='reset by peer' if alive else r'DataLoader worker \(pid\(s\) 321\) exited'
    ):
        next(loops._with_named_deaths(Broken()))
