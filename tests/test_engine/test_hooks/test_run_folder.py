"""What hooks leave in a run folder, together and after a restart."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.runner import LogProcessor
from mmengine.visualization import LocalVisBackend, Visualizer
from torch.utils.data import Dataset

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.samplers import StreamSampler
from internvl_mm.engine.hooks import (
    CheckpointHook,
    EMAHook,
    NonFiniteHook,
    NonFiniteLossError,
    ReportHook,
    SamplePicturesHook,
    ThroughputHook,
    report,
)
from internvl_mm.engine.loops import IterTrainLoop
from internvl_mm.engine.runner import Runner
from internvl_mm.evaluation.metrics import Accuracy
from internvl_mm.evaluation.report import read_run
from internvl_mm.structures import ImageSample
from internvl_mm.utils.errors import ConfigError

from .conftest import pictures, tiny_task


class Noise(Dataset):
    """Random pictures with a name and classes."""

    metainfo = dict(name='noise', classes=('a', 'b', 'c', 'd'))

    def __init__(self) -> None:
        self.items = pictures(9)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.items[int(index)]
        sample = item['data_samples']
        return dict(
            inputs=item['inputs'],
            data_samples=ImageSample.labelled(
                int(sample.gt_label), dataset='noise', index=sample.index, path=None
            ),
        )


def loader(**sampler: Any) -> dict[str, Any]:
    return dict(dataset=Noise(), batch_size=3, collate_fn=dict(type=collate_samples), sampler=sampler)


def make(
    folder: Path, *hooks: Any, iterations: int = 6, checkpoint: CheckpointHook | None = None, **settings: Any
) -> Runner:
    return Runner(
        tiny_task(),
        work_dir=str(folder),
        experiment_name=uuid.uuid4().hex,
        train_dataloader=loader(type=StreamSampler),
        train_cfg=dict(type=IterTrainLoop, max_iters=iterations, val_interval=2),
        optim_wrapper=dict(optimizer=dict(type=torch.optim.SGD, lr=0.1)),
        benchmarks=dict(
            noise=dict(
                dataloader=loader(type='mmengine.DefaultSampler', shuffle=False),
                metrics=[dict(type=Accuracy, topk=(1,))],
            )
        ),
        default_hooks=dict(
            logger=dict(type=LoggerHook, interval=1, log_metric_by_epoch=False), checkpoint=checkpoint
        ),
        custom_hooks=list(hooks),
        log_processor=dict(type=LogProcessor, by_epoch=False, log_with_hierarchy=True),
        visualizer=dict(type=Visualizer, vis_backends=[dict(type=LocalVisBackend)]),
        randomness=dict(seed=0),
        log_level='WARNING',
        **settings,
    )


def states(runner: Runner) -> list[str]:
    return sorted(path.name for path in runner.checkpoint_dir.glob('iter_*'))


def test_everything_together(tmp_path):
    hooks = EMAHook(decay=0.5), SamplePicturesHook(samples=2, mistakes=2), ThroughputHook(), ReportHook()
    runner = make(tmp_path, *hooks, checkpoint=CheckpointHook(interval=2, save_best='noise/ema/top1'))
    runner.train()
    run = read_run(runner.log_dir)
    assert {row.metric: row.n for row in run.results}.items() >= {'top1': 9, 'ema/top1': 9}.items()
    assert run.results[0].lower < run.results[0].value < run.results[0].upper or run.results[0].value in (
        0,
        100,
    )
    assert [x for x, _ in run.curves['train/loss']] == [1, 2, 3, 4, 5, 6]
    assert [x for x, _ in run.curves['val/noise/ema/top1']] == [2, 4, 6]
    assert 2 <= len(run.pictures) <= 4 and len({picture.file for picture in run.pictures}) == len(
        run.pictures
    )
    assert {picture.label for picture in run.pictures} <= set('abcd')
    page = (Path(runner.log_dir) / 'report.html').read_text()
    assert 'SingleDeviceStrategy, 1 process' in page and page.count('data:image/png') == len(run.pictures)


def test_report_of_a_stopped_run(tmp_path):
    runner = make(tmp_path, NonFiniteHook(), ReportHook())
    runner.model.head.linear.weight.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(NonFiniteLossError):
        runner.train()
    text = (Path(runner.log_dir) / 'report.html').read_text()
    assert 'iteration 3, gradient: ' in text


def test_a_report_that_fails_does_not_hide_why_the_run_ended(tmp_path, monkeypatch):
    def fail(folder):
        raise OSError('no room for a report')

    monkeypatch.setattr(report, 'write_report', fail)
    runner = make(tmp_path, NonFiniteHook(patience=1), ReportHook())
    runner.model.head.linear.weight.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(NonFiniteLossError):
        runner.train()
    assert (
        'the report was not brought up to date: no room'
        in next(Path(runner.log_dir).glob('*.log')).read_text()
    )


def test_kept_states_and_pointers(tmp_path):
    scores = iter([50.0, 90.0, 70.0])
    hook = CheckpointHook(interval=1, keep_last=2, save_best='noise/score')
    runner = make(tmp_path, checkpoint=hook)

    class Scores(EMAHook):
        def after_benchmarks(self, runner, loop, results):
            results['noise']['score'] = next(scores)

    runner.register_hook(Scores())
    runner.train()
    assert states(runner) == ['iter_000004', 'iter_000005', 'iter_000006']
    assert (runner.checkpoint_dir / 'latest').read_text().strip() == 'iter_000006'
    assert (runner.checkpoint_dir / 'best').read_text().strip() == 'iter_000004'
    run = Path(runner.log_dir).name
    assert runner.message_hub.get_info('best') == dict(run=run, state='iter_000004', value=90.0)


def test_resumed_run_equals_uninterrupted_run(tmp_path):
    whole = EMAHook(decay=0.5)
    runner = make(tmp_path / 'whole', whole, checkpoint=CheckpointHook(save_best='noise/top1'))
    runner.train()
    best = runner.message_hub.get_info('best')

    first = make(
        tmp_path / 'parts',
        EMAHook(decay=0.5),
        iterations=3,
        checkpoint=CheckpointHook(save_best='noise/top1'),
    )
    first.train()
    assert (first.checkpoint_dir / 'iter_000003' / 'ema.safetensors').is_file()
    second = EMAHook(decay=0.5)
    resumed = make(tmp_path / 'parts', second, checkpoint=CheckpointHook(save_best='noise/top1'), resume=True)
    resumed.train()
    for name, value in whole.average.items():
        torch.testing.assert_close(second.average[name], value, rtol=0, atol=0)
    assert resumed.message_hub.get_info('best')['value'] == best['value']


def test_last_state_is_saved_and_may_leave_out_the_frozen(tmp_path):
    task = tiny_task(frozen='all')
    runner = make(tmp_path, checkpoint=CheckpointHook(interval=100, trainable_only=True))
    runner.model = task
    runner.train()
    assert states(runner) == ['iter_000006']
    meta = json.loads((runner.checkpoint_dir / 'iter_000006' / 'meta.json').read_text())
    assert 'frozen_sha256' in meta and meta['iter'] == 6


@pytest.mark.parametrize(
    ('metric', 'message'),
    [
        ('nois/top1', "begins with no benchmark.*Did you mean 'noise'"),
        ('noise/top', "is not measured.*Did you mean 'noise/top1'"),
        ('noise/ema/top', "is not measured.*Did you mean 'noise/ema/top1'"),
    ],
)
def test_misspelt_best(tmp_path, metric, message):
    runner = make(tmp_path, EMAHook(decay=0.5), checkpoint=CheckpointHook(save_best=metric))
    with pytest.raises(ConfigError, match=message):
        runner.train()
    assert runner.iter == 0, 'before the first step'


def test_wrong_settings():
    with pytest.raises(ConfigError, match='interval=0 and keep_last=2 must be at least 1'):
        CheckpointHook(interval=0)
    with pytest.raises(ConfigError, match="rule='bigger' is unknown: use 'greater' or 'less'"):
        CheckpointHook(rule='bigger')
