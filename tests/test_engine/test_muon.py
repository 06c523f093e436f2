"""Muon's groups: tables of a vocabulary apart, everything else as the constructor below decides."""

from __future__ import annotations

import pytest
import timm.optim
import torch
from mmengine.optim import OptimWrapper
from timm.optim.muon import _COEFFICIENTS, resolve_ns_coefficients, zeropower_via_newtonschulz
from torch import nn

from internvl_mm.engine.muon import Muon, MuonLayerDecay, MuonPartRates
from internvl_mm.models.backbones import InternViT
from internvl_mm.utils.errors import ConfigError


class Tower(nn.Module):
    """A backbone, an embedding table and an output layer tied to it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = InternViT(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=28
        )
        self.table, self.lm_head = nn.Embedding(12, 16), nn.Linear(16, 12, bias=False)
        self.lm_head.weight = self.table.weight
        self.other = nn.Linear(16, 12, bias=False)

    def layer_of(self, name: str) -> tuple[str, int, int]:
        return name.partition('.')[0], 0, 0


def build(kind: type, **paramwise: object) -> tuple[Tower, OptimWrapper]:
    model = Tower()
    settings = dict(type=OptimWrapper, optimizer=dict(type=Muon, lr=0.01, weight_decay=0.1))
    return model, kind(settings, paramwise)(model)


@pytest.mark.parametrize(
    ('kind', 'paramwise'),
    [(MuonLayerDecay, dict(decay_rate=0.5)), (MuonPartRates, dict(lr_mult={'table': 0.1}))],
)
def test_tables_of_a_vocabulary_go_to_adamw(kind: type, paramwise: dict) -> None:
    model, wrapper = build(kind, **paramwise)
    marked = [group for group in wrapper.optimizer.param_groups if group.get('use_fallback')]
    (table,) = marked
    assert [id(weight) for weight in table['params']] == [id(model.table.weight)]
    assert table['name'].endswith('_table')
    rest = {id(weight) for group in wrapper.optimizer.param_groups for weight in group['params']}
    assert rest == {id(weight) for weight in model.parameters()}


def test_matrices_move_by_equal_singular_values_and_tables_do_not() -> None:
    model, wrapper = build(MuonLayerDecay, decay_rate=1.0)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    # A gradient of one direction: Muon keeps it one, AdamW takes its signs.
    loss = (model.table(torch.arange(3)).sum() + model.other(torch.ones(1, 16))).sum()
    wrapper.update_params(loss)
    moved = {name: weight.detach() - before[name] for name, weight in model.named_parameters()}
    assert moved['table.weight'][:3].abs().min() > 0
    assert moved['table.weight'][3:].abs().max() < 1e-2  # weight decay alone
    singular = torch.linalg.svdvals(moved['other.weight'] + 0.01 * 0.1 * before['other.weight'])
    assert singular[0] > 20 * singular[1]


def test_on_cpus_iterations_are_computed_in_fp32() -> None:
    torch.manual_seed(0)
    weight = torch.randn(24, 16)
    gradient = torch.randn(24, 16)
    settings = dict(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0, adjust_lr_fn='original')
    moved = {}
    for kind in (Muon, timm.optim.Muon):
        parameter = nn.Parameter(weight.clone())
        parameter.grad = gradient.clone()
        optimizer = kind([parameter], **settings)
        optimizer.step()
        moved[kind] = (weight - parameter.detach()) / 0.1 / (24 / 16) ** 0.5
    coefficients = resolve_ns_coefficients(optimizer.defaults['ns_coefficients'], _COEFFICIENTS)
    expected = {
        dtype: zeropower_via_newtonschulz(gradient, 5, coefficients, dtype=dtype).float()
        for dtype in (torch.float32, torch.bfloat16)
    }
    torch.testing.assert_close(moved[Muon], expected[torch.float32], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(moved[timm.optim.Muon], expected[torch.bfloat16], atol=1e-5, rtol=1e-5)
    assert (expected[torch.float32] - expected[torch.bfloat16]).abs().max() > 1e-3


def test_settings_are_those_of_the_constructor_below() -> None:
    with pytest.raises(ConfigError, match='MuonLayerDecay|LayerDecay takes'):
        build(MuonLayerDecay, decay=1)
