"""A run from its config: what it leaves, what it refuses."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import LinearLR
from torch.optim import AdamW
from torch.optim.optimizer import _global_optimizer_pre_hooks
from torch.utils.data import BatchSampler

from internvl_mm.engine.hooks import (
    CheckpointHook,
    EMAHook,
    HangWatchHook,
    NonFiniteHook,
    ProgressHook,
    ReportHook,
    StopSignalHook,
)
from internvl_mm.engine.runner import Runner
from internvl_mm.utils.errors import CheckpointError, ConfigError, DataError, UserError
from tests.test_engine.tiny import LossRecorder, TinyImages, tiny_config, tiny_model


def test_a_run_trains_evaluates_and_leaves_its_folder(work_dir: Path) -> None:
    recorder = LossRecorder()
    runner = Runner.from_cfg(tiny_config(work_dir, custom_hooks=[recorder], val_benchmarks=['tiny']))
    runner.train()
    metrics = runner.test()

    assert len(recorder.losses) == 10
    assert recorder.losses[-1] < recorder.losses[0]
    assert metrics['tiny/n'] == 7
    folder = Path(runner.log_dir)
    assert folder.parent == work_dir
    environment = json.loads((folder / 'environment.json').read_text())
    assert environment['packages']['torch']
    assert len(environment['git'] or 'x' * 40) >= 40
    rows = json.loads((folder / 'results.json').read_text())
    assert [(row['benchmark'], row['metric'], row['n']) for row in rows] == [
        ('tiny', 'top1', 7),
        ('tiny', 'loss', 7),
    ]
    assert rows[0]['value'] == metrics['tiny/top1']
    assert rows[0]['iter'] == 10
    assert rows[0]['config_hash'] == runner.config_hash
    assert list(folder.glob('*.log'))


def test_evaluating_needs_no_training_data(work_dir: Path) -> None:
    config = tiny_config(work_dir)
    config['train_dataloader']['dataset'] = dict(type=TinyImages, length='not at hand')
    assert Runner.from_cfg(config).test()['tiny/n'] == 7


def test_the_resolved_config_of_a_run_folder_builds_the_same_run(work_dir: Path) -> None:
    first = LossRecorder()
    runner = Runner.from_cfg(tiny_config(work_dir / 'first'))
    runner.register_hook(first)
    runner.train()
    config = Config.fromfile(Path(runner.log_dir) / 'config.py')
    config.work_dir = str(work_dir / 'second')

    again = Runner.from_cfg(config)
    second = LossRecorder()
    again.register_hook(second)
    again.train()
    assert first.losses == second.losses


def test_config_hash_tells_what_is_computed_not_where(work_dir: Path) -> None:
    def hash_of(**changes: object) -> str:
        return Runner.from_cfg(tiny_config(changes.pop('work_dir', work_dir), **changes)).config_hash

    assert hash_of() == hash_of(work_dir=work_dir / 'elsewhere')
    assert hash_of() != hash_of(model=tiny_model(width=64))


def test_work_dir_that_cannot_be_written_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    file = tmp_path / 'file'
    file.write_text('')
    with pytest.raises(UserError, match='not writable .*choose another with --work-dir'):
        Runner.from_cfg(tiny_config(file / 'below', model=dict(type='nothing of the kind')))


def test_a_run_that_fails_gives_back_what_it_took(work_dir: Path) -> None:
    """In a process that lives on, its watch would end everything, and its saver would hold up other optimisers."""

    class Fail(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            assert signal.getsignal(signal.SIGTERM) != handler
            raise KeyError('of a part of the user')

    handler, before = signal.getsignal(signal.SIGTERM), len(_global_optimizer_pre_hooks)
    kinds = (HangWatchHook, CheckpointHook, StopSignalHook, NonFiniteHook, ProgressHook, ReportHook)
    runner = Runner.from_cfg(tiny_config(work_dir, custom_hooks=[dict(type=kind) for kind in kinds]))
    runner.register_hook(Fail())
    with pytest.raises(KeyError, match='of a part of the user'):
        runner.train()
    assert signal.getsignal(signal.SIGTERM) == handler
    assert len(_global_optimizer_pre_hooks) == before
    assert not runner.model._forward_hooks
    (watch,) = (hook for hook in runner.hooks if isinstance(hook, HangWatchHook))
    assert watch._end.is_set()
    assert (Path(runner.log_dir) / 'report.html').is_file()


def test_a_clean_up_that_fails_hides_nothing_and_stops_no_other(work_dir: Path) -> None:
    class Careless(Hook):
        priority = 'HIGHEST'  # before all others

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            signal.raise_signal(signal.SIGTERM)

        def after_stop(self, runner):
            raise BrokenPipeError('nobody reads this')

    handler = signal.getsignal(signal.SIGTERM)
    hooks = [dict(type=StopSignalHook), dict(type=CheckpointHook)]
    runner = Runner.from_cfg(tiny_config(work_dir, custom_hooks=[Careless(), *hooks]))
    with pytest.raises(SystemExit) as stopped:
        runner.train()
    assert stopped.value.code == 143 and signal.getsignal(signal.SIGTERM) == handler
    (log,) = Path(runner.log_dir).glob('*.log')
    text = log.read_text()
    assert 'Careless failed to clean up after the run' in text and 'BrokenPipeError: nobody reads' in text


def test_unknown_benchmark_names_are_refused(work_dir: Path) -> None:
    with pytest.raises(ConfigError, match="val_benchmarks names 'tinny'.*Did you mean 'tiny'"):
        Runner.from_cfg(tiny_config(work_dir, val_benchmarks=['tinny']))


def test_nothing_to_do_is_said(work_dir: Path) -> None:
    config = tiny_config(work_dir, benchmarks={})
    with pytest.raises(ConfigError, match='no benchmarks'):
        Runner.from_cfg(config).test()
    with pytest.raises(ConfigError, match='val_benchmarks is empty'):
        Runner.from_cfg(config).val()
    for name in ('train_dataloader', 'optim_wrapper', 'train_cfg', 'param_scheduler'):
        config.pop(name)
    with pytest.raises(ConfigError, match='nothing to train'):
        Runner.from_cfg(config).train()


def test_data_and_head_of_different_classes_are_refused(
    work_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyImages, 'metainfo', dict(dataset='tiny', classes=('a', 'b')))
    with pytest.raises(DataError, match='2 classes but the head has num_classes=3'):
        Runner.from_cfg(tiny_config(work_dir)).train()


def test_less_than_a_batch_of_data_is_refused(work_dir: Path) -> None:
    config = tiny_config(work_dir)
    config['train_dataloader'].update(batch_size=64, drop_last=True)
    with pytest.raises(ConfigError, match='20 samples make no batch of 64'):
        Runner.from_cfg(config).train()


def test_less_than_a_batch_of_a_batch_sampler_is_refused(work_dir: Path) -> None:
    config = tiny_config(work_dir)
    sampler = dict(type=BatchSampler, drop_last=True)
    config['train_dataloader'].update(batch_size=64, batch_sampler=sampler)
    with pytest.raises(ConfigError, match='20 samples make no batch of 64 per process'):
        Runner.from_cfg(config).train()


def test_default_hooks_are_added_to_the_indispensable_ones(work_dir: Path) -> None:
    runner = Runner.from_cfg(
        tiny_config(work_dir, default_hooks=dict(logger=None, losses=dict(type=LossRecorder)))
    )
    names = [type(hook).__name__ for hook in runner.hooks]
    assert 'LossRecorder' in names
    assert 'ParamSchedulerHook' in names
    assert 'LoggerHook' not in names
    assert 'CheckpointHook' not in names


def test_learning_rate_follows_the_global_batch(work_dir: Path) -> None:
    config = tiny_config(work_dir, auto_scale_lr=dict(base_batch_size=16))
    config['optim_wrapper'] = dict(config['optim_wrapper'], accumulative_counts=2)
    runner = Runner.from_cfg(config)
    runner.train()
    # 4 samples x 2 accumulated batches / 16
    assert runner.param_schedulers[0].base_values == pytest.approx([0.5e-3])


def test_resuming_nothing_and_from_nowhere(work_dir: Path, tmp_path: Path) -> None:
    assert Runner.from_cfg(tiny_config(work_dir, resume=True))._resume is False
    with pytest.raises(CheckpointError, match='it does not exist. Give a folder such as'):
        Runner.from_cfg(tiny_config(work_dir, resume=str(tmp_path / 'nowhere')))


def test_the_average_of_a_training_state_is_evaluated_in_another_process_too(work_dir: Path) -> None:
    def run(**changes: object) -> Runner:
        hooks = [dict(type=EMAHook, decay=0.9)]
        return Runner.from_cfg(tiny_config(work_dir, custom_hooks=hooks, **changes))

    trained = run()
    trained.train()
    expected = trained.test()
    trained.save_checkpoint(str(trained.checkpoint_dir), 'iter_000010')
    loaded = run(load_from=str(trained.checkpoint_dir)).test()
    assert loaded == expected
    assert {'tiny/top1', 'tiny/ema/top1'} <= loaded.keys()
    assert loaded['tiny/loss'] != loaded['tiny/ema/loss']


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (
            dict(optimizer=dict(type=AdamW, lr=0.1, foreach=True, fused=True)),
            'optim_wrapper: `fused` and `foreach` cannot be `True` together',
        ),
        (dict(clip_grad={}), 'optim_wrapper: If `clip_grad` is not None'),
        (
            dict(schedule=dict(type=LinearLR, begin=5, end=3)),
            'param_scheduler: end should be larger than begin',
        ),
        (
            dict(schedule=dict(type=LinearLR, by_epoch=False, convert_to_iter_based=True)),
            'param_scheduler: Only epoch-based parameter scheduler can be converted',
        ),
        (dict(compile=dict(mode='fast')), 'compile=.*fast.*: Unrecognized mode=fast'),
    ],
)
def test_what_libraries_refuse_is_a_mistake_in_a_setting(work_dir: Path, setting: dict, message: str) -> None:
    config = tiny_config(work_dir)
    if 'schedule' in setting:
        config['param_scheduler'] = [setting['schedule']]
    elif 'compile' in setting:
        config.update(setting)
    else:
        config['optim_wrapper'] = {**config['optim_wrapper'], **setting}
    with pytest.raises(ConfigError, match=message):
        Runner.from_cfg(config).train()
