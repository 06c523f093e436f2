"""The run stops before a bad number reaches the weights, and says which batch it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from internvl_mm.engine.hooks import NonFiniteHook, NonFiniteLossError
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.utils.errors import ConfigError


def snapshot(task: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in task.named_parameters()}


def assert_unspoiled(task: torch.nn.Module, before: dict[str, torch.Tensor]) -> None:
    for name, parameter in task.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=0)


def test_finite_run_is_untouched(make_runner):
    runner = make_runner(NonFiniteHook())
    task = runner.train()
    assert not (Path(runner.log_dir) / 'non_finite.jsonl').exists()
    assert not task._forward_hooks


@pytest.fixture
def states(monkeypatch) -> list[dict[str, torch.Tensor]]:
    """The parameters before each step."""
    seen, loss = [], ImageClassifier.loss

    def watched(task, inputs, data_samples):
        seen.append(snapshot(task))
        return loss(task, inputs, data_samples)

    monkeypatch.setattr(ImageClassifier, 'loss', watched)
    return seen


def test_loss(make_runner, monkeypatch, states):
    runner = make_runner(NonFiniteHook(patience=1))
    watched = ImageClassifier.loss

    def second_is_nan(task, inputs, data_samples):
        losses = watched(task, inputs, data_samples)
        return losses if len(states) == 1 else losses | dict(loss=losses['loss'] * torch.nan)

    monkeypatch.setattr(ImageClassifier, 'loss', second_is_nan)
    with pytest.raises(
        NonFiniteLossError, match=r'loss is not finite at iteration 2 .*noise\[3\], 3.png.*clip_grad'
    ):
        runner.train()
    record = json.loads((Path(runner.log_dir) / 'non_finite.jsonl').read_text())
    assert record['parts']['loss'] == 'nan'
    assert record['iteration'] == 2
    assert [sample['path'] for sample in record['samples']] == ['3.png', '4.png', '5.png']
    assert_unspoiled(runner.model, states[1])


@pytest.mark.parametrize('settings', [{}, dict(clip_grad=dict(max_norm=1.0))])
def test_gradient_with_finite_loss(make_runner, settings, states):
    runner = make_runner(NonFiniteHook(patience=1), **settings)
    task = runner.model
    task.backbone.encoder.layers[0].ls1.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(NonFiniteLossError, match=r'gradient is not finite at iteration 1 in'):
        runner.train()
    record = json.loads((Path(runner.log_dir) / 'non_finite.jsonl').read_text())
    assert 'backbone.encoder.layers.0.ls1' in record['parameters']
    assert_unspoiled(task, states[0])


def test_list_of_losses(make_runner, monkeypatch):
    runner = make_runner(NonFiniteHook(patience=1))
    monkeypatch.setattr(
        ImageClassifier,
        'loss',
        lambda task, inputs, data_samples: dict(
            loss_box=[task.head.linear.bias[:2], task.head.linear.bias[0] + torch.inf]
        ),
    )
    with pytest.raises(NonFiniteLossError, match='loss_box=inf'):
        runner.train()


def poison(monkeypatch, *iterations: int) -> None:
    """Make pictures, and so losses, gradients and running statistics, NaN in some iterations."""
    loss, calls = ImageClassifier.loss, []

    def poisoned(task, inputs, data_samples):
        calls.append(None)
        return loss(task, inputs * (torch.nan if len(calls) in iterations else 1), data_samples)

    monkeypatch.setattr(ImageClassifier, 'loss', poisoned)


def test_a_bad_step_leaves_everything_as_it_was(make_runner, monkeypatch, states):
    poison(monkeypatch, 2)
    runner = make_runner(NonFiniteHook(), iterations=3)
    task = runner.train()
    before, after = states[1], states[2]
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0)
    assert all(torch.isfinite(tensor).all() for tensor in task.state_dict().values())
    assert any((states[2][name] != value).any() for name, value in snapshot(task).items())
    (line,) = (Path(runner.log_dir) / 'non_finite.jsonl').read_text().splitlines()
    assert json.loads(line)['iteration'] == 2


def test_three_in_a_row_stop_the_run(make_runner, monkeypatch):
    poison(monkeypatch, 1, 2, 4, 5, 6)
    runner = make_runner(NonFiniteHook(), iterations=8)
    with pytest.raises(NonFiniteLossError, match='iteration 6, 3 in a row'):
        runner.train()
    lines = (Path(runner.log_dir) / 'non_finite.jsonl').read_text().splitlines()
    assert [json.loads(line)['iteration'] for line in lines] == [1, 2, 4, 5, 6]


def test_an_accumulated_step_is_skipped_whole(make_runner, monkeypatch, states):
    poison(monkeypatch, 1)
    runner = make_runner(NonFiniteHook(), iterations=4, accumulative_counts=2)
    runner.train()
    torch.testing.assert_close(states[2], states[0], rtol=0, atol=0)
    assert any((states[2][name] != value).any() for name, value in snapshot(runner.model).items())


def test_patience_is_at_least_one():
    with pytest.raises(ConfigError, match='patience=0 must be at least 1'):
        NonFiniteHook(patience=0)
