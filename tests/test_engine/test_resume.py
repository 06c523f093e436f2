"""An interrupted run goes on as if nothing had happened: same losses, same bytes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import LinearLR, OptimWrapper
from torch.optim import SGD, AdamW
from torch.utils.data import BatchSampler

from internvl_mm.data.samplers import StreamSampler
from internvl_mm.engine.checkpoint import read_meta
from internvl_mm.engine.hooks import CheckpointHook
from internvl_mm.engine.loops import EpochTrainLoop, IterTrainLoop
from internvl_mm.engine.optim import CosineAbsolute
from internvl_mm.engine.resuming import check_kinds, kept_settings
from internvl_mm.engine.runner import Runner
from internvl_mm.engine.savers import Saver
from internvl_mm.engine.strategies import DDPStrategy, DeepSpeedStrategy
from internvl_mm.engine.trees import load_tensors
from internvl_mm.utils.errors import CheckpointError
from internvl_mm.utils.states import find_states
from tests.test_engine.tiny import (
    LossRecorder,
    SaveAt,
    StopTraining,
    loader,
    parameters_of,
    tiny_config,
    tiny_model,
)


def run(config: dict[str, Any], *hooks: Any) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Train to the end, or to where a hook stops; losses and parameters."""
    recorder = LossRecorder()
    runner = Runner.from_cfg(config)
    for hook in (recorder, *hooks):
        runner.register_hook(hook)
    try:
        runner.train()
    except StopTraining:
        pass
    return recorder.losses, parameters_of(runner)


def assert_same_bytes(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


# 3 lies in the first epoch, 5 at its end, 8 in the second.
@pytest.mark.parametrize(('iteration', 'workers'), [(3, 0), (5, 0), (8, 2)])
def test_resuming_is_exact_at_any_iteration(work_dir: Path, iteration: int, workers: int) -> None:
    # The whole run reads in this process: the number of workers must not matter either.
    losses, parameters = run(tiny_config(work_dir / 'whole'))
    first, _ = run(tiny_config(work_dir / 'split', workers=workers), SaveAt(iteration))
    torch.manual_seed(12345)  # another process would have other random states
    second, resumed = run(tiny_config(work_dir / 'split', workers=workers, resume=True))

    assert len(first) == iteration
    assert first + second == losses
    assert_same_bytes(parameters, resumed)


def test_resuming_a_stream_with_accumulation_is_exact(work_dir: Path) -> None:
    def config(folder: str, **changes: Any) -> dict[str, Any]:
        changed = tiny_config(work_dir / folder, optimizer='sgd', **changes)
        changed['train_dataloader'] = loader(length=7, batch_size=2, sampler=StreamSampler)
        changed['train_cfg'] = dict(type=IterTrainLoop, max_iters=8)
        changed['param_scheduler'] = [
            dict(changed['param_scheduler'][0], convert_to_iter_based=False, by_epoch=False)
        ]
        changed['optim_wrapper'] = dict(changed['optim_wrapper'], accumulative_counts=2)
        return changed

    losses, parameters = run(config('whole'))
    first, _ = run(config('split'), SaveAt(4))
    second, resumed = run(config('split', resume=True))
    assert first + second == losses
    assert_same_bytes(parameters, resumed)


@pytest.mark.parametrize('by_epoch', [False, True])
def test_states_wait_for_the_update_of_an_accumulation(work_dir: Path, by_epoch: bool) -> None:
    # Due after 3 iterations, or after an epoch of 5: in the middle of an update of 2 batches.
    hook = dict(type=CheckpointHook, interval=1 if by_epoch else 3, by_epoch=by_epoch, saver=dict(type=Saver))

    def config(folder: str, **changes: Any) -> dict[str, Any]:
        changed = tiny_config(work_dir / folder, custom_hooks=[hook], **changes)
        changed['optim_wrapper'] = dict(changed['optim_wrapper'], accumulative_counts=2)
        return changed

    losses, parameters = run(config('whole'))
    run(config('split'), SaveAt(7))
    (folder,) = (work_dir / 'split').glob('*/checkpoints')
    due = folder / ('iter_000006' if by_epoch else 'iter_000004')
    second, resumed = run(config('again', resume=str(due)))
    assert second == losses[int(due.name[-1]) :]
    assert_same_bytes(parameters, resumed)


def test_gradients_that_a_state_does_not_hold_are_told(work_dir: Path, capsys) -> None:
    def config(**changes: Any) -> dict[str, Any]:
        changed = tiny_config(work_dir, log_level='WARNING', **changes)
        changed['optim_wrapper'] = dict(changed['optim_wrapper'], accumulative_counts=2)
        return changed

    run(config(), SaveAt(3))
    run(config(resume=True))
    assert 'was written after 1 of the 2 batches of an update' in capsys.readouterr().out


class Evaluations(Hook):
    """Keeps when benchmarks were evaluated, and what they gave."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.seen.append((runner.iter, dict(metrics or {})))


class KilledBeforeEvaluation(Hook):
    """Dies where the evaluation after some iterations would begin."""

    priority = 'LOWEST'

    def __init__(self, iteration: int):
        self.iteration = iteration

    def before_val(self, runner: Runner) -> None:
        if runner.iter == self.iteration:
            raise StopTraining


@pytest.mark.parametrize('by_epoch', [False, True])
@pytest.mark.parametrize('iteration', [5, 10])
def test_an_evaluation_that_was_missed_is_made_up_for(work_dir: Path, by_epoch: bool, iteration: int) -> None:
    hook = dict(
        type=CheckpointHook,
        interval=1 if by_epoch else 5,
        by_epoch=by_epoch,
        saver=dict(type=Saver),
        save_best='tiny/loss',
        rule='less',
    )

    def config(folder: str, **changes: Any) -> dict[str, Any]:
        changed = tiny_config(work_dir / folder, val_benchmarks=['tiny'], custom_hooks=[hook], **changes)
        if not by_epoch:
            changed['train_dataloader'] = loader(length=7, batch_size=2, sampler=StreamSampler)
            changed['train_cfg'] = dict(type=IterTrainLoop, max_iters=10, val_interval=5)
            schedule = dict(type=CosineAbsolute, warmup=1, by_epoch=False)
            changed['param_scheduler'] = [schedule]
        return changed

    watch = Evaluations()
    _, parameters = run(config('whole'), watch)
    first = Evaluations()
    run(config('split'), first, KilledBeforeEvaluation(iteration))
    second = Evaluations()
    _, resumed = run(config('split', resume=True), second)
    assert [one[0] for one in watch.seen] == [5, 10]
    assert first.seen + second.seen == watch.seen
    assert_same_bytes(parameters, resumed)


@pytest.mark.slow
def test_a_new_process_resumes_exactly(work_dir: Path, repo: Path) -> None:
    losses, _ = run(tiny_config(work_dir / 'whole'))
    run(tiny_config(work_dir / 'split'), SaveAt(7))
    code = (
        'import json, sys\n'
        'from tests.test_engine.test_resume import run\n'
        'from tests.test_engine.tiny import tiny_config\n'
        'print(json.dumps(run(tiny_config(sys.argv[1], resume=True))[0]))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, str(work_dir / 'split')],
        cwd=repo,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == losses[7:]


def test_frozen_weights_can_stay_out_of_the_state(work_dir: Path) -> None:
    def config(folder: str, **changes: Any) -> dict[str, Any]:
        return tiny_config(work_dir / folder, model=tiny_model(frozen='all'), **changes)

    losses, parameters = run(config('whole'))
    first, _ = run(config('split'), SaveAt(5, trainable_only=True))
    (state,) = (work_dir / 'split').glob('*/checkpoints/iter_000005')
    second, resumed = run(config('split', resume=str(state)))
    assert first + second == losses
    assert_same_bytes(parameters, resumed)
    assert (state / 'model.safetensors').stat().st_size < 5_000  # the backbone alone has 100 kB

    # Another seed draws another backbone, which the saved head does not belong to.
    other = config('other', load_from=str(state), randomness=dict(seed=1))
    with pytest.raises(
        CheckpointError,
        match='trainable parameters only, and the frozen ones of this model are not.*sha256 [0-9a-f]{12}',
    ):
        run(other)


def test_load_from_takes_weights_only(work_dir: Path) -> None:
    _, parameters = run(tiny_config(work_dir / 'first'), SaveAt(4))
    runner = Runner.from_cfg(tiny_config(work_dir / 'second', load_from=str(work_dir / 'first')))
    runner.test()
    assert_same_bytes(parameters, parameters_of(runner))
    assert runner.iter == 0


@pytest.fixture
def state(work_dir: Path) -> Path:
    """A training state after 3 iterations."""
    run(tiny_config(work_dir), SaveAt(3))
    (folder,) = work_dir.glob('*/checkpoints')
    return find_states(folder)[0]


def test_another_seed_is_refused(work_dir: Path, state: Path) -> None:
    with pytest.raises(CheckpointError, match='written with seed 0 and the config has randomness.seed=1'):
        Runner.from_cfg(tiny_config(work_dir, resume=True, randomness=dict(seed=1)))
    # Without a seed in the config, the state's counts.
    assert Runner.from_cfg(tiny_config(work_dir, resume=True, randomness={})).seed == 0


@pytest.mark.parametrize(
    ('changes', 'notes'),
    [
        (dict(), []),
        (
            dict(optim_wrapper=dict(optimizer=dict(type=AdamW, lr=0.25), type=OptimWrapper)),
            ['optim_wrapper.optimizer.lr=0.25 has no effect: .* with optim_wrapper.optimizer.lr='],
        ),
        # The end of a schedule that has none of its own.
        (
            dict(train_cfg=dict(type=EpochTrainLoop, max_epochs=9)),
            ['param_scheduler.0.end=9 has no effect: .*end=2;'],
        ),
        (
            dict(
                param_scheduler=[
                    dict(type=CosineAbsolute, warmup=2, by_epoch=True, convert_to_iter_based=True)
                ]
            ),
            ['param_scheduler.0.warmup=2 has no effect: .* with param_scheduler.0.warmup=1;'],
        ),
    ],
)
def test_settings_that_the_state_overrules_are_told(
    work_dir: Path, state: Path, changes: dict, notes: list[str]
) -> None:
    runner = Runner.from_cfg(tiny_config(work_dir, resume=True, **changes))
    told = kept_settings(read_meta(state)['config'], runner.cfg.pretty_text)
    assert all(re.search(note, '\n'.join(told)) for note in notes)
    assert bool(told) == bool(notes) and len(told) < 8, told


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(optim_wrapper=dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1))),
            'written with optim_wrapper.optimizer.type=AdamW and this run has SGD.*load_from',
        ),
        (
            dict(param_scheduler=[dict(type=LinearLR, by_epoch=False, end=5)]),
            'param_scheduler.0.type=CosineAbsolute and this run has LinearLR',
        ),
        (dict(param_scheduler=[]), 'param_scheduler.0.type=CosineAbsolute and this run has absent'),
    ],
)
def test_numbers_of_another_optimiser_or_schedule_are_refused(
    work_dir: Path, state: Path, changes: dict, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        run(tiny_config(work_dir, resume=True, **changes))


def test_one_optimiser_and_schedule_under_other_names_go_on(state: Path) -> None:
    saved = read_meta(state)['config']
    own = saved.replace("'torch.optim.adamw.AdamW'", "'AdamW'")
    assert own != saved
    check_kinds(saved, own, str(state))
    # A single schedule needs no list.
    check_kinds("param_scheduler = [dict(type='A')]", "param_scheduler = dict(type='A')", str(state))


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (dict(depth=3), 'depth: 2 blocks in the checkpoint, 3 in the model'),
        (
            dict(width=64),
            r'class_embedding \(1, 1, 32\) in the checkpoint, \(1, 1, 64\) in the model',
        ),
    ],
)
def test_a_state_of_another_model_is_refused(work_dir: Path, state: Path, model: dict, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        run(tiny_config(work_dir, resume=str(state), model=tiny_model(**model)))


@pytest.mark.parametrize('strategy', [dict(type=DDPStrategy), dict(type=DeepSpeedStrategy, zero_stage=2)])
def test_another_strategy_goes_on(work_dir: Path, strategy: dict[str, Any]) -> None:
    losses, parameters = run(tiny_config(work_dir / 'whole'))
    run(tiny_config(work_dir / 'split'), SaveAt(5))
    second, resumed = run(tiny_config(work_dir / 'split', resume=True, strategy=strategy))
    # The same process: even its random states go on.
    assert second == pytest.approx(losses[5:], abs=1e-5)
    torch.testing.assert_close(resumed, parameters, atol=1e-5, rtol=1e-4)
    # And back, from what the other strategy wrote.
    run(tiny_config(work_dir / 'back', strategy=strategy), SaveAt(5))
    second, resumed = run(tiny_config(work_dir / 'back', resume=True))
    assert second == pytest.approx(losses[5:], abs=1e-5)
    torch.testing.assert_close(resumed, parameters, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(batch_size=2),
            'written with global_batch=4 and this run has 2.*set train_dataloader.batch_size',
        ),
        (dict(batch_size=2, batch_sampler=BatchSampler), 'written with global_batch=4 and this run has 2'),
        (dict(length=21), 'written with samples=20 and this run has 21.*give it the same data'),
        (dict(length=20, drop=3), 'written with steps_per_epoch=5 and this run has 6.*drop_last=True'),
    ],
)
def test_another_order_of_samples_is_refused(work_dir: Path, changes: dict, message: str) -> None:
    config = tiny_config(work_dir)
    if 'drop' in changes:
        config['train_dataloader']['dataset']['length'] = 22
        config['train_dataloader']['drop_last'] = True
    if 'batch_sampler' in changes:
        # It has the size then, and the loader none.
        config['train_dataloader']['batch_sampler'] = dict(type=changes['batch_sampler'], drop_last=False)
    run(config, SaveAt(3))
    config['resume'] = True
    config['train_dataloader']['batch_size'] = changes.get('batch_size', 4)
    if 'drop' in changes:
        config['train_dataloader']['drop_last'] = False
    else:
        config['train_dataloader']['dataset']['length'] = changes.get('length', 20)
    with pytest.raises(CheckpointError, match=message):
        run(config)


def test_a_run_that_began_with_weights_resumes_its_own_state(work_dir: Path) -> None:
    run(tiny_config(work_dir / 'pretrain'), SaveAt(4))

    def config(folder: str, **changes: Any) -> dict[str, Any]:
        return tiny_config(
            work_dir / folder,
            load_from=str(work_dir / 'pretrain'),
            model=tiny_model(frozen='all'),
            randomness=dict(seed=1),
            **changes,
        )

    losses, parameters = run(config('whole'))
    # The frozen part is in neither the state nor the constructor: it comes from load_from again.
    run(config('split'), SaveAt(5, trainable_only=True))
    second, resumed = run(config('split', resume=True))
    assert second == losses[5:]
    assert_same_bytes(parameters, resumed)


def test_another_optimizer_is_refused(work_dir: Path, state: Path) -> None:
    config = tiny_config(work_dir, resume=str(state))
    config['optim_wrapper']['paramwise_cfg'] = dict(bypass_duplicate=True, norm_decay_mult=0.0)
    with pytest.raises(CheckpointError, match='the optimiser differs .*resume with the same optim_wrapper'):
        run(config)


def test_weights_without_optimizer_cannot_be_resumed(work_dir: Path) -> None:
    run(tiny_config(work_dir), SaveAt(3, save_optimizer=False))
    (state,) = work_dir.glob('*/checkpoints/iter_*')
    assert not (state.parent / 'latest').exists()
    with pytest.raises(CheckpointError, match='holds weights only'):
        run(tiny_config(work_dir, resume=str(state)))


def test_a_damaged_state_is_passed_over_aloud(work_dir: Path, capsys) -> None:
    losses, _ = run(tiny_config(work_dir / 'whole'))
    run(tiny_config(work_dir / 'split'), SaveAt(3, stop=False), SaveAt(6))
    older, newer = sorted((work_dir / 'split').glob('*/checkpoints/iter_*'))
    file = newer / 'model.safetensors'
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # one bit of one weight
    file.write_bytes(content)
    capsys.readouterr()
    second, _ = run(tiny_config(work_dir / 'split', resume=True))
    assert second == losses[3:]
    # Lines break between words or within a path, wherever the width of the console falls.
    shown = ''.join(capsys.readouterr().out.split())
    assert 'passedover:' in shown and 'sha256differs' in shown and f'fallingbackto{older}' in shown
    # Weights alone are taken from the older one, too, and said to be.
    runner = Runner.from_cfg(tiny_config(work_dir / 'test', load_from=str(work_dir / 'split')))
    runner.test()
    for name, tensor in load_tensors(older / 'model.safetensors').items():
        assert torch.equal(runner.model.state_dict()[name], tensor)
    assert f'fallingbackto{older}' in ''.join(capsys.readouterr().out.split())
    with pytest.raises(CheckpointError, match='model.safetensors was changed after it was written'):
        run(tiny_config(work_dir / 'split', resume=str(newer)))
    (older / 'model.safetensors').unlink()
    with pytest.raises(CheckpointError, match='all 2 training states are damaged'):
        run(tiny_config(work_dir / 'split', resume=True))
