"""The average follows the published rule, is measured beside the weights, and survives a restart."""

from __future__ import annotations

import pytest
import torch
from mmengine.hooks import Hook
from timm.utils import ModelEmaV3

from internvl_mm.engine.doctor.trial import Poison
from internvl_mm.engine.hooks import CheckpointHook, EMAHook, NonFiniteHook
from internvl_mm.engine.hooks._runner import statistic_places, statistics_of, task_of
from internvl_mm.engine.hooks.ema import averaged_tensors
from internvl_mm.engine.runner import Runner
from internvl_mm.utils.errors import CheckpointError, ConfigError
from tests.test_engine.tiny import tiny_config

from .conftest import tiny_task


class TimmHook(EMAHook):
    """timm's average of the whole model, moved at the same moments."""

    def before_train(self, runner):
        super().before_train(runner)
        self.timm = ModelEmaV3(runner.model, decay=self.decay)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        super().after_train_iter(runner, batch_idx)
        self.timm.update(runner.model)


def test_equals_timm(make_runner):
    hook = TimmHook(decay=0.9)
    make_runner(hook).train()
    expected = hook.timm.module.state_dict()
    assert any('running_var' in name for name in hook.average)
    for name, value in hook.average.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)


def test_frozen_parameters_are_not_copied():
    names = averaged_tensors(tiny_task(frozen='all'))
    assert names and all(name.startswith('head.') for name in names)


def test_accumulating_iterations_do_not_count(make_runner):
    hook, moves = EMAHook(), []
    hook._blend = lambda averages, weights, steps: moves.append(len(averages))
    make_runner(hook, iterations=3, accumulative_counts=2).train()
    # after the second iteration, and after the last one, whose gradient would otherwise be lost
    assert len(moves) == 2


def test_applied_puts_the_average_in_and_the_weights_back(make_runner):
    hook = EMAHook(decay=0.9)
    runner = make_runner(hook)
    task = runner.train()
    raw = {name: tensor.detach().clone() for name, tensor in averaged_tensors(task).items()}
    with pytest.raises(KeyError), hook.applied(runner):
        for name, tensor in averaged_tensors(task).items():
            torch.testing.assert_close(tensor.detach(), hook.average[name], rtol=0, atol=0)
        raise KeyError
    for name, tensor in averaged_tensors(task).items():
        torch.testing.assert_close(tensor.detach(), raw[name], rtol=0, atol=0)


def test_state_goes_through_a_checkpoint(make_runner):
    hook = EMAHook(decay=0.9)
    runner = make_runner(hook)
    runner.train()
    checkpoint = dict(message_hub={})
    hook.before_save_checkpoint(runner, checkpoint)
    saved = {name: tensor.clone() for name, tensor in checkpoint['ema'].items()}

    resumed = EMAHook(decay=0.9)
    runner = make_runner()
    resumed.after_load_checkpoint(runner, checkpoint)
    resumed.before_train(runner)
    for name, tensor in saved.items():
        torch.testing.assert_close(resumed.average[name], tensor, rtol=0, atol=0)


def test_average_of_another_model(make_runner):
    hook = EMAHook()
    hook.after_load_checkpoint(None, dict(message_hub={}))
    with pytest.raises(CheckpointError, match='the training state has no average.*resume without the hook'):
        hook.before_train(make_runner())
    hook.after_load_checkpoint(None, dict(ema={'head.other': torch.zeros(1)}, message_hub={}))
    with pytest.raises(CheckpointError, match=r'does not fit the model \(differs in backbone'):
        hook.before_train(make_runner())


@pytest.mark.parametrize('decay', [0.0, 1.0, 1.5])
def test_decay_out_of_range(decay):
    with pytest.raises(ConfigError, match=f'decay={decay} must lie between 0 and 1'):
        EMAHook(decay=decay)


def test_partitioned_parameters():
    task = tiny_task()
    task.head.linear.weight.ds_tensor = torch.zeros(1)
    with pytest.raises(ConfigError, match='parameters ZeRO-3 partitions: use fsdp2 or zero2'):
        averaged_tensors(task)


def test_a_run_that_only_loads_weights_begins_its_own_average(make_runner):
    hook, runner = EMAHook(decay=0.9), make_runner()
    hook.after_load_checkpoint(runner, dict(ema={'head.other': torch.zeros(1)}))
    hook.before_train(runner)
    assert hook.average.keys() == averaged_tensors(runner.model).keys()


def test_running_statistics_of_a_skipped_step_stay_out(work_dir):
    """Whichever hook a config names first."""

    class Spoil(Hook):
        priority = 'VERY_HIGH'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter + 1 == 3:
                for buffer in statistics_of(statistic_places(task_of(runner))).values():
                    buffer.fill_(torch.nan)

    hook = EMAHook()
    runner = Runner.from_cfg(tiny_config(work_dir, custom_hooks=[hook, dict(type=NonFiniteHook)]))
    for other in (Poison('loss', {3}), Spoil()):
        runner.register_hook(other)
    runner.train()
    assert all(torch.isfinite(value).all() for value in hook.average.values())


def test_an_average_that_is_being_saved_is_waited_for(make_runner):
    """In fp16 an optimiser may pass over a step, before which savers are otherwise waited for."""
    hook, order = EMAHook(), []
    hook._blend = lambda *_: order.append('blend')
    checkpoint = CheckpointHook()
    checkpoint.saver.settle = lambda: order.append('settle')
    runner = make_runner(hook)
    hook.before_train(runner)
    runner.register_hook(checkpoint)
    hook.after_train_iter(runner, 0)
    assert order == ['settle', 'blend']
