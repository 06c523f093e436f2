"""The same run by one process and by two, with every strategy: same losses, same parameters, same resumption."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine._strategy import BaseStrategy
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from safetensors.torch import load_file

from internvl_mm.engine.config import load_config
from internvl_mm.engine.hooks import EMAHook
from internvl_mm.engine.muon import Muon
from internvl_mm.engine.runner import Runner
from internvl_mm.engine.strategies import DeepSpeedStrategy, SingleDeviceStrategy, deepspeed
from internvl_mm.engine.strategies.launch import choose_backend, join_group
from internvl_mm.engine.strategies.sync_bn import CollectiveBatchNorm
from internvl_mm.utils.errors import ConfigError
from internvl_mm.utils.precision import Choice
from tests.test_engine.tiny import tiny_config, tiny_model
from tests.test_engine.two_processes import BATCH_NORM, config_for, launch, main, train

SHARED = ['ddp', 'zero1', 'zero2', 'zero3', 'zero3_offload', 'fsdp2']
# One of each way to cut an optimiser: not at all, flat by group, flat by parameter, by rows.
CUTS = ['ddp', 'zero2', 'zero3', 'fsdp2']
# Run by one process, run by two, iterations.
PAIRS = [*(('single', name, 6) for name in SHARED), (BATCH_NORM, BATCH_NORM, 10)]
# Batch norm removes a constant shift of the features, so that these have no gradient but rounding errors, which AdamW
# scales up to whole steps, and the running mean follows them.
WITHOUT_GRADIENT = {BATCH_NORM: {'backbone.encoder.layers.1.mlp.fc2.bias', 'head.norm.running_mean'}}


@pytest.fixture(scope='module')
def runs(tmp_path_factory: pytest.TempPathFactory, repo: Path) -> dict[int, Path]:
    """Results by the number of processes: the shipped fine-tuning with every shipped strategy, over gloo."""
    folders = {processes: tmp_path_factory.mktemp(f'{processes}_processes') for processes in (1, 2)}
    main(folders[1], ['single', BATCH_NORM])
    # Two processes also go on from where the one stopped.
    (grows_from,) = (folders[1] / 'single' / 'split').glob('*/checkpoints/iter_000004')
    launch(folders[2], [*SHARED, BATCH_NORM], processes=2, repo=repo, grows_from=grows_from)
    return folders


def result(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f'{name}.json').read_text())


@pytest.mark.slow
@pytest.mark.parametrize(('one', 'two', 'iterations'), PAIRS)
def test_two_processes_train_as_one_does(runs: dict[int, Path], one: str, two: str, iterations: int) -> None:
    expected, found = result(runs[1], one), result(runs[2], two)
    assert len(expected['losses']) == iterations
    assert found['losses'] == pytest.approx(expected['losses'], abs=1e-4)
    assert max(expected['losses']) - min(expected['losses']) > 0.05  # something was learnt
    single, shared = load_file(runs[1] / f'{one}.safetensors'), load_file(runs[2] / f'{two}.safetensors')
    assert shared.keys() == single.keys()
    for key in single.keys() - WITHOUT_GRADIENT.get(one, set()):
        torch.testing.assert_close(shared[key], single[key], atol=1e-5, rtol=1e-4)
    assert found['metrics'] == pytest.approx(expected['metrics'], abs=1e-4)
    assert {value for key, value in found['metrics'].items() if key.endswith('/n')} <= {
        13,
        7,
    }  # odd: uneven shares


@pytest.mark.slow
@pytest.mark.parametrize(
    ('processes', 'name'), [(1, 'single'), (1, BATCH_NORM), *((2, name) for name in (*SHARED, BATCH_NORM))]
)
def test_every_strategy_resumes_exactly(runs: dict[int, Path], processes: int, name: str) -> None:
    folder = runs[processes]
    found = result(folder, name)
    assert found['resumed'] == found['losses']
    whole, again = load_file(folder / f'{name}.safetensors'), load_file(folder / f'{name}_again.safetensors')
    assert not [key for key in whole if not torch.equal(whole[key], again[key])]


@pytest.mark.slow
@pytest.mark.parametrize('name', CUTS)
def test_one_process_goes_on_where_two_stopped(runs: dict[int, Path], tmp_path: Path, name: str) -> None:
    expected, single = result(runs[1], 'single'), load_file(runs[1] / 'single.safetensors')
    (state,) = (runs[2] / name / 'split').glob('*/checkpoints/iter_000004')
    losses, runner = train(config_for('single', tmp_path, processes=1, resume=str(state)))
    # The order of samples went on, and so did the moments of the optimiser, whichever way they had been cut.
    assert losses == pytest.approx(expected['losses'][4:], abs=1e-4)
    for key, tensor in runner.strategy.model_state_dict().items():
        torch.testing.assert_close(tensor, single[key], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_two_processes_go_on_where_one_stopped(runs: dict[int, Path]) -> None:
    expected = result(runs[1], 'single')
    for name in CUTS:
        assert result(runs[2], name)['grown'] == pytest.approx(expected['losses'][4:], abs=1e-4)


def test_one_process_is_told_apart_from_many(work_dir: Path) -> None:
    with pytest.raises(
        ConfigError, match="is for one process, but launcher='pytorch' starts several: take ddp"
    ):
        Runner.from_cfg(tiny_config(work_dir, strategy=dict(type=SingleDeviceStrategy), launcher='pytorch'))


def test_launchers_and_backends_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)
    assert choose_backend('auto') == 'gloo'
    with pytest.raises(ConfigError, match="backend='nccl' needs CUDA"):
        choose_backend('nccl')
    with pytest.raises(
        ConfigError, match='environment lacks RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR: start the run'
    ):
        join_group('pytorch')
    monkeypatch.setenv('SLURM_PROCID', '1')
    with pytest.raises(ConfigError, match='environment lacks WORLD_SIZE, LOCAL_RANK, MASTER_ADDR'):
        join_group('slurm')
    with pytest.raises(ConfigError, match="launcher='torchrun' is unknown"):
        join_group('torchrun')


@pytest.mark.parametrize('kind', [OptimWrapper, 'mmengine.optim.OptimWrapper', 'OptimWrapper'])
def test_fp16_scales_losses(work_dir: Path, kind: object, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = SingleDeviceStrategy(work_dir=str(work_dir), log_kwargs=dict(log_level='ERROR'))
    strategy.precision = Choice(torch.float16, 'as on a CUDA device')
    built = {}
    monkeypatch.setattr(
        BaseStrategy, 'build_optim_wrapper', lambda self, config, model=None: built.update(config)
    )
    strategy.build_optim_wrapper(dict(type=kind, optimizer=dict(type='SGD', lr=0.1)))
    assert built['type'] is AmpOptimWrapper
    assert built['dtype'] == 'float16'


@pytest.mark.parametrize('kind', [SingleDeviceStrategy, DeepSpeedStrategy])
def test_what_an_optimiser_refuses_is_told(work_dir: Path, kind: type) -> None:
    strategy = kind(work_dir=str(work_dir), log_kwargs=dict(log_level='ERROR'))
    settings = dict(optimizer=dict(type=torch.optim.SGD, lr=0.1, nesterov=True))
    with pytest.raises(ConfigError, match="optim_wrapper: Nesterov momentum requires .*'nesterov': True"):
        strategy.build_optim_wrapper(settings, torch.nn.Linear(1, 1))


def test_deepspeed_knows_its_batch_size_also_by_a_dotted_name(work_dir: Path) -> None:
    strategy = dict(type='internvl_mm.engine.strategies.DeepSpeedStrategy', zero_stage=2)
    runner = Runner.from_cfg(tiny_config(work_dir, strategy=strategy))
    assert isinstance(runner.strategy, DeepSpeedStrategy)
    assert runner.strategy._batch_size == 4


def test_averages_follow_the_updates_of_deepspeed_not_its_batches(work_dir: Path) -> None:
    strategy = dict(type=DeepSpeedStrategy, zero_stage=1)
    config = tiny_config(work_dir, strategy=strategy, custom_hooks=[dict(type=EMAHook)])
    config['optim_wrapper'] = dict(config['optim_wrapper'], accumulative_counts=2)
    updates = []

    class Watch(Hook):
        def after_train_iter(self, runner: Runner, batch_idx: int, **kwargs: Any) -> None:
            updates.append(runner.optim_wrapper.should_update())

    runner = Runner.from_cfg(config)
    runner.register_hook(Watch())
    runner.train()
    assert updates == [False, True] * 5
    assert runner.strategy.engine.global_steps == 5


def test_deepspeed_settings_are_checked(work_dir: Path) -> None:
    with pytest.raises(ConfigError, match='zero_stage=4 is unknown: use 1, 2 or 3'):
        DeepSpeedStrategy(zero_stage=4, work_dir=str(work_dir))
    config = tiny_config(work_dir, strategy=dict(type=DeepSpeedStrategy))
    config['optim_wrapper'] = dict(config['optim_wrapper'], clip_grad=dict(type='value', clip_value=1.0))
    with pytest.raises(ConfigError, match='DeepSpeed clips the global 2-norm only'):
        Runner.from_cfg(config).train()
    config['optim_wrapper'] = dict(config['optim_wrapper'], optimizer=dict(type=Muon, lr=0.01))
    config['optim_wrapper'].pop('clip_grad')
    with pytest.raises(ConfigError, match='Muon needs whole parameters, and ZeRO flattens'):
        Runner.from_cfg(config).train()


def test_an_optimiser_is_tried_where_it_will_work(work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(deepspeed, 'is_elementwise', lambda optimizer, device: tried.append(device))
    monkeypatch.setattr(deepspeed, 'get_device', lambda: 'meta')
    for offload in (True, False):
        strategy = dict(type=DeepSpeedStrategy, offload=offload)
        with pytest.raises(ConfigError, match='AdamW needs whole parameters'):
            Runner.from_cfg(tiny_config(work_dir, strategy=strategy)).train()
    assert tried == ['cpu', 'meta']


def test_collective_batch_norm_equals_torchs_in_one_process() -> None:
    join_group('none')
    expected = torch.nn.BatchNorm2d(3, momentum=0.3)
    found = CollectiveBatchNorm(3, momentum=0.3)
    for _ in range(3):
        left = torch.randn(4, 3, 5, 2).mul(3).add(7).requires_grad_()
        right = left.detach().clone().requires_grad_()
        weights = torch.randn_like(left)
        (expected(left) * weights).sum().backward()
        (found(right) * weights).sum().backward()
        torch.testing.assert_close(right.grad, left.grad, atol=1e-5, rtol=1e-4)
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor)
    torch.testing.assert_close(found.eval()(left), expected.eval()(left))
    with pytest.raises(ValueError, match='at least 2 dimensions'):
        found(torch.zeros(3))


def test_the_group_is_left_before_the_interpreter_ends(repo: Path) -> None:
    # Registered earlier, told later.
    code = """
import atexit
from torch import distributed
from internvl_mm.engine.strategies.launch import join_group
atexit.register(lambda: print('in a group at the end:', distributed.is_initialized()))
join_group('none', backend='gloo')
print('in a group:', distributed.is_initialized())
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=repo, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ['in a group: True', 'in a group at the end: False']


def test_a_named_precision_reaches_the_task(work_dir: Path) -> None:
    runner = Runner.from_cfg(
        tiny_config(work_dir, strategy=dict(type=SingleDeviceStrategy, precision='bf16'))
    )
    runner.train()
    assert runner.strategy.task.autocast_dtype == torch.bfloat16
    assert {parameter.dtype for parameter in runner.strategy.task.parameters()} == {torch.float32}


@pytest.mark.parametrize('name', ['zero3_hierarchical', 'zeropp', 'zero3_offload'])
def test_deepspeed_accepts_the_shipped_settings(work_dir: Path, name: str) -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    strategy = load_config(f'_base_/strategies/{name}.py').strategy.to_dict()
    runner = Runner.from_cfg(tiny_config(work_dir, strategy=strategy))
    runner.strategy.precision = Choice(torch.float32, 'as here')
    settings = runner.strategy._config(3)['zero_optimization']
    built = DeepSpeedZeroConfig(**settings)
    assert built.stage == 3
    assert all(getattr(built, key) == value for key, value in strategy.get('options', {}).items())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(zero_hpz_partition_sise=8), 'zero_hpz_partition_sise is no setting .*zero_hpz_partition_size'),
        (dict(stage=2), 'options.stage is no setting'),
        (dict(zero_hpz_partition_size='eight'), 'DeepSpeed refuses them'),
    ],
)
def test_options_of_deepspeed_are_checked(work_dir: Path, options: dict, message: str) -> None:
    strategy = dict(type=DeepSpeedStrategy, zero_stage=3, options=options)
    with pytest.raises(ConfigError, match=message):
        Runner.from_cfg(tiny_config(work_dir, strategy=strategy))


def test_accumulated_gradients_are_those_of_the_big_batch(work_dir: Path) -> None:
    found = {}
    for name, batch, counts in (('big', 4, 1), ('accumulated', 2, 2)):
        # No batch norm and no random layers: those see the small batch.
        model = tiny_model(drop_path=0.0)
        model['head'].update(norm='layer')
        config = tiny_config(work_dir / name, model=model, optimizer='sgd')
        config['train_dataloader']['batch_size'] = batch
        config['param_scheduler'] = []
        config['optim_wrapper'] = dict(config['optim_wrapper'], accumulative_counts=counts)
        runner = Runner.from_cfg(config)
        runner.train()
        found[name] = runner.strategy.model_state_dict()
    torch.testing.assert_close(found['accumulated'], found['big'], atol=1e-5, rtol=1e-4)
