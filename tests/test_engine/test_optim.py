"""Layer-wise learning rates against the published table, the schedule against timm's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import timm.optim
import torch
import transformers
from mmengine.optim import OptimWrapper, build_optim_wrapper
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.optim import SGD, AdamW

from internvl_mm.engine.muon import Muon
from internvl_mm.engine.optim import CosineAbsolute, LayerDecay, is_elementwise
from internvl_mm.models.backbones import InternViT, ViTAdapter
from internvl_mm.registry import PARAM_SCHEDULERS
from internvl_mm.utils.errors import ConfigError


class Model(nn.Module):
    """A tiny backbone of any depth with a head."""

    def __init__(self, depth: int, frozen: int | None = None):
        super().__init__()
        self.backbone = InternViT(
            hidden_size=4,
            num_hidden_layers=depth,
            num_attention_heads=1,
            intermediate_size=4,
            image_size=14,
            frozen=frozen,
        )
        self.head = nn.Linear(4, 2)


def build(model: nn.Module, decay_rate: float = 0.95) -> OptimWrapper:
    return build_optim_wrapper(
        model,
        dict(
            type=OptimWrapper,
            constructor=LayerDecay,
            paramwise_cfg=dict(decay_rate=decay_rate),
            optimizer=dict(type=AdamW, lr=1.0, weight_decay=0.05),
            clip_grad=dict(max_norm=5.0),
        ),
    )


def settings_of(wrapper: OptimWrapper, model: nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by parameter name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    }


def published_table(depth: int, rate: float) -> dict[str, float]:
    """The published rule written down: K = n + 2 layers, ``rate ** (K - 1 - id)``, names to ids by hand."""
    table = {
        'embeddings.class_embedding': 0,
        'embeddings.position_embedding': 0,
        'embeddings.patch_embedding.weight': 0,
        'embeddings.patch_embedding.bias': 0,
    }
    tails = 'attn.qkv.weight attn.q_norm.weight attn.k_norm.weight attn.proj.weight attn.proj.bias mlp.fc1.weight '
    tails += 'mlp.fc1.bias mlp.fc2.weight mlp.fc2.bias norm1.weight norm2.weight ls1 ls2'
    for block in range(depth):
        table |= {f'encoder.layers.{block}.{tail}': block + 1 for tail in tails.split()}
    rates = {f'backbone.{name}': rate ** (depth + 1 - layer) for name, layer in table.items()}
    return rates | {'head.weight': 1.0, 'head.bias': 1.0}


@pytest.mark.parametrize('depth', [24, 45, 48])
@pytest.mark.parametrize('rate', [0.95, 0.8, 1.0])
def test_the_whole_table_is_the_published_one(depth: int, rate: float) -> None:
    model = Model(depth)
    found = {name: settings[0] for name, settings in settings_of(build(model, rate), model).items()}
    assert found == pytest.approx(published_table(depth, rate), rel=1e-12)


class Wrapped(nn.Module):
    """A task around a model of another library, with an adapter, a neck and a head with queries."""

    def __init__(self):
        super().__init__()
        self.model = nn.Module()
        self.model.backbone = ViTAdapter(
            backbone=InternViT(
                hidden_size=8, num_hidden_layers=2, num_attention_heads=1, intermediate_size=4, image_size=32,
                patch_size=16, use_class_token=False,
            ),
            interactions=((0, 0), (1, 1)), conv_inplane=4, deform_num_heads=1,
        )  # fmt: skip
        self.model.neck = nn.Conv2d(8, 4, 1)
        self.model.decode_head = nn.Module()
        self.model.decode_head.query_feat = nn.Embedding(3, 4)
        self.model.decode_head.conv_seg = nn.Conv2d(4, 2, 1)

    @property
    def backbone(self) -> nn.Module:
        return self.model.backbone


def test_adapter_neck_and_head_train_at_the_full_rate_also_inside_a_wrapped_model() -> None:
    model = Wrapped()
    found = settings_of(build(model, 0.5), model)
    assert len(found) == len(list(model.parameters()))
    vit = 'model.backbone.vit.'
    assert found[vit + 'embeddings.position_embedding'] == (0.125, 0.05)
    assert found[vit + 'encoder.layers.0.mlp.fc1.weight'] == (0.25, 0.05)
    assert found[vit + 'encoder.layers.1.ls1'] == (0.5, 0.0)
    assert found['model.backbone.level_embed'] == (1.0, 0.05)
    assert found['model.backbone.interactions.0.injector.gamma'] == (1.0, 0.0)
    others = [name for name in found if not name.startswith(vit)]
    assert {found[name][0] for name in others} == {1.0}


def test_queries_of_a_head_can_train_like_embeddings() -> None:
    model = Wrapped()
    config = dict(optimizer=dict(type=AdamW, lr=1.0))
    groups = LayerDecay(config, dict(decay_rate=0.5, at_input=['model.decode_head.query_'])).groups(model)
    rate = {id(p): group['lr'] for group in groups for p in group['params']}
    assert rate[id(model.model.decode_head.query_feat.weight)] == 0.125
    assert rate[id(model.model.decode_head.conv_seg.weight)] == 1.0
    with pytest.raises(ConfigError, match=r"at_input: no parameter .* begins with \['decode_head.queries'\]"):
        LayerDecay(config, dict(decay_rate=0.5, at_input=['decode_head.queries'])).groups(model)


# embeddings, block 0, last block, head at 0.95
GOLDEN = {24: (0.2774, 0.2920, 0.95, 1.0), 45: (0.0945, 0.0994, 0.95, 1.0), 48: (0.0810, 0.0853, 0.95, 1.0)}


@pytest.mark.parametrize('depth', GOLDEN)
def test_rates_follow_the_published_rule(depth: int) -> None:
    model = Model(depth)
    found = settings_of(build(model), model)
    names = [
        'backbone.embeddings.position_embedding',
        'backbone.encoder.layers.0.attn.qkv.weight',
        f'backbone.encoder.layers.{depth - 1}.mlp.fc2.bias',
        'head.weight',
    ]
    assert [round(found[name][0], 4) for name in names] == list(GOLDEN[depth])


def test_only_vectors_and_biases_are_spared_weight_decay() -> None:
    model = Model(2)
    found = settings_of(build(model), model)
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        assert found[name][1] == (0.05 if parameter.ndim > 1 else 0.0), name
    # As published, although exempting them was the intention there.
    assert found['backbone.embeddings.class_embedding'][1] == 0.05
    assert found['backbone.embeddings.position_embedding'][1] == 0.05


def test_groups_are_layers_with_and_without_decay_and_frozen_ones_stay_out() -> None:
    wrapper = build(Model(2, frozen=2))  # embeddings and block 0
    names = [group['name'] for group in wrapper.optimizer.param_groups]
    assert names == ['layer_2_no_decay', 'layer_2_decay', 'layer_3_no_decay', 'layer_3_decay']
    assert wrapper.clip_grad_kwargs == dict(max_norm=5.0)


def test_layer_decay_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ConfigError, match=r'LayerDecay takes dict\(decay_rate=...\) with a rate in \(0, 1\]'):
        build(Model(1), decay_rate=1.5)
    with pytest.raises(ConfigError, match='needs a model with a backbone that has layer_id'):
        build(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match='needs optim_wrapper.optimizer.lr'):
        LayerDecay(dict(optimizer=dict(type=AdamW)), dict(decay_rate=0.9)).groups(Model(1))


def sgd(*rates: float) -> SGD:
    return SGD([dict(params=[nn.Parameter(torch.zeros(1))], lr=rate) for rate in rates], lr=0.1)


def test_cosine_has_the_published_values() -> None:
    optimizer = sgd(0.2)
    scheduler = CosineAbsolute(optimizer, warmup=1251, end=12510, by_epoch=False)
    rates = []
    for _ in range(12511):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    expected = {0: 0.0, 1250: 0.19984, 1251: 0.19511, 12510: 0.0}
    assert {step: round(rates[step], 5) for step in expected} == expected


def test_cosine_equals_timms() -> None:
    ours, theirs = sgd(0.2, 0.02), sgd(0.2, 0.02)
    scheduler = CosineAbsolute(ours, warmup=7, end=50, by_epoch=False)
    reference = CosineLRScheduler(
        theirs, t_initial=50, warmup_t=7, warmup_lr_init=0.0, lr_min=0.0, t_in_epochs=False
    )
    for step in range(51):
        reference.step_update(step)
        for mine, their in zip(ours.param_groups, theirs.param_groups, strict=True):
            assert mine['lr'] == pytest.approx(their['lr'], abs=1e-12)
        ours.step()
        scheduler.step()


def test_cosine_lengths_in_epochs() -> None:
    scheduler = PARAM_SCHEDULERS.build(
        dict(type=CosineAbsolute, warmup=1, by_epoch=True, convert_to_iter_based=True, end=10),
        default_args=dict(optimizer=sgd(0.2), epoch_length=1251),
    )
    assert (scheduler.warmup, scheduler.total, scheduler.by_epoch) == (1251, 12510, False)
    with pytest.raises(ConfigError, match='needs by_epoch=True'):
        CosineAbsolute.build_iter_from_epoch(sgd(0.2), warmup=1, end=10, by_epoch=False, epoch_length=10)
    with pytest.raises(ConfigError, match='CosineAbsolute: warmup=11 must lie between 0 and end=10'):
        CosineAbsolute(sgd(0.2), warmup=11, end=10)


def test_schedule_resumes_at_its_step() -> None:
    first, second = sgd(0.2), sgd(0.2)
    whole, resumed = (CosineAbsolute(o, warmup=2, end=10, by_epoch=False) for o in (first, second))
    for _ in range(5):
        first.step()
        whole.step()
    resumed.load_state_dict(whole.state_dict())
    for scheduler, optimizer in ((whole, first), (resumed, second)):
        optimizer.step()
        scheduler.step()
    assert first.param_groups[0]['lr'] == second.param_groups[0]['lr'] > 0
    assert SimpleNamespace(**whole.state_dict()).last_step == 6


@pytest.mark.parametrize(
    ('optimizer', 'expected'),
    [
        (dict(type=AdamW, lr=0.0, weight_decay=0.05, fused=True), True),
        (dict(type=SGD, lr=0.1, momentum=0.9), True),
        (dict(type=torch.optim.NAdam), True),
        (dict(type=timm.optim.Lion), True),
        (dict(type=timm.optim.Lamb, lr=1e-3), False),
        (dict(type=timm.optim.Lars, lr=1e-3, weight_decay=1e-6), False),
        (dict(type=timm.optim.NvNovoGrad), False),
        (dict(type=torch.optim.Adafactor), False),
        (dict(type=Muon, lr=0.01), False),
        (dict(type=timm.optim.AdamP), False),
        (dict(type=timm.optim.SGDP, lr=0.1, momentum=0.9), False),
    ],
)
def test_which_optimisers_look_at_a_parameter_as_a_whole(optimizer: dict, expected: bool) -> None:
    before = torch.get_rng_state()
    assert is_elementwise(optimizer, 'cpu') is expected
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ('kind', 'problem'),
    [
        (torch.optim.LBFGS, 'closure'),
        (transformers.Adafactor, 'Cannot combine manual `lr` and `relative_step=True`'),
    ],
)
def test_an_optimiser_that_takes_no_plain_step_is_told(kind: type, problem: str) -> None:
    with pytest.raises(ConfigError, match=f'{kind.__name__}.* takes no plain step: .*{problem}'):
        is_elementwise(dict(type=kind), 'cpu')
