"""Learning rates by part and depth of a chat model."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch.optim import AdamW

from internvl_mm.engine.muon import MuonPartRates
from internvl_mm.engine.part_rates import PartRates
from internvl_mm.models.tuning import PartTuning
from internvl_mm.utils.errors import ConfigError
from tests.test_models.tiny_tuning import tiny_task


def constructor(**settings) -> PartRates:
    wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3, weight_decay=0.05))
    return PartRates(wrapper, settings or None)


def test_rates_fall_with_depth_in_each_part() -> None:
    task = tiny_task(vision=PartTuning())
    rates = constructor(lr_mult=dict(vision_model=0.1), decay_rate=dict(vision_model=0.5, language_model=0.9))
    groups = {group['name']: group for group in rates.groups(task)}
    # 3 blocks of the tower, so its last depth is 4; 2 of the language model: 3.
    assert groups['vision_model_0_decay']['lr'] == pytest.approx(1e-3 * 0.1 * 0.5**4)
    assert groups['vision_model_3_decay']['lr'] == pytest.approx(1e-3 * 0.1 * 0.5)
    assert groups['language_model_0_decay']['lr'] == pytest.approx(1e-3 * 0.9**3)
    assert groups['language_model_3_decay']['lr'] == pytest.approx(1e-3)  # the output matrix
    assert groups['mlp1_0_decay']['lr'] == 1e-3
    assert groups['vision_model_1_no_decay']['weight_decay'] == 0
    assert {group['weight_decay'] for name, group in groups.items() if 'no_decay' not in name} == {0.05}
    grouped = [id(parameter) for group in groups.values() for parameter in group['params']]
    assert sorted(grouped) == sorted(id(parameter) for parameter in task.parameters())


def test_parts_without_decay_are_one_group_and_frozen_ones_none() -> None:
    names = {group['name'] for group in constructor().groups(tiny_task())}
    assert names == {'mlp1_0_decay', 'mlp1_0_no_decay', 'language_model_3_decay', 'language_model_3_no_decay'}


class Contrast(nn.Module):
    """A matrix and a temperature, which has no dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.tower, self.temperature = nn.Linear(2, 2), nn.Parameter(torch.tensor(0.5))

    def layer_of(self, name: str) -> tuple[str, int, int]:
        return 'all', 0, 0


@pytest.mark.parametrize(
    ('kind', 'undecayed'),
    # The published rule names one dimension; Muon's groups leave the temperature alone, too.
    [(PartRates, {'tower.bias'}), (MuonPartRates, {'tower.bias', 'temperature'})],
)
def test_a_temperature_decays_as_published(kind: type[PartRates], undecayed: set[str]) -> None:
    model = Contrast()
    groups = kind(dict(optimizer=dict(type=AdamW, lr=1e-3, weight_decay=0.05))).groups(model)
    without = {id(weight) for group in groups if group['weight_decay'] == 0 for weight in group['params']}
    assert {name for name, weight in model.named_parameters() if id(weight) in without} == undecayed


def test_it_builds_an_optimiser() -> None:
    wrapper = constructor(lr_mult=dict(mlp1=2))(tiny_task())
    assert {group['lr'] for group in wrapper.optimizer.param_groups} == {2e-3, 1e-3}


@pytest.mark.parametrize(
    'settings', [dict(rates=1), dict(lr_mult=2), dict(decay_rate=dict(mlp1=0)), dict(lr_mult=dict(mlp1='x'))]
)
def test_wrong_settings_are_told(settings: dict) -> None:
    with pytest.raises(ConfigError, match='PartRates takes dict'):
        constructor(**settings)


def test_unknown_parts_and_tasks_are_told() -> None:
    with pytest.raises(ConfigError, match=r"names the part 'vision'; ChatTuning has .*vision_model"):
        constructor(lr_mult=dict(vision=1)).groups(tiny_task())
    with pytest.raises(ConfigError, match='needs a task with layer_of'):
        constructor().groups(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match='needs optim_wrapper.optimizer.lr'):
        PartRates(dict(optimizer=dict(type=AdamW))).groups(tiny_task())
