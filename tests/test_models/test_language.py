"""Language models: rotary positions of published configs, by the formulas of their papers."""

from __future__ import annotations

import math

import pytest
import torch

from internvl_mm.models.language import FAMILIES, family_of, language_config
from internvl_mm.models.language.families import published_settings
from internvl_mm.utils.errors import ConfigError
from tests.test_models.tiny_chat import LANGUAGE

THETA, HEAD = 1e6, 8


def rotary_of(architecture: str, length: int, **settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines ``[length, HEAD]`` the model rotates by."""
    config = language_config(dict(LANGUAGE, architectures=[architecture], rope_theta=THETA, **settings))
    model = family_of(config).model_class(config).model
    cos, sin = model.rotary_emb(torch.zeros(1, 1), torch.arange(length)[None])
    return cos[0], sin[0]


def by_formula(length: int, *, base: float = THETA, stretch: float = 1.0, factors=None, scale: float = 1.0):
    exponents = torch.arange(0, HEAD, 2) / HEAD
    frequencies = 1 / (base**exponents * (1.0 if factors is None else torch.tensor(factors)))
    angles = torch.outer(torch.arange(length) / stretch, frequencies).repeat(1, 2)
    return angles.cos() * scale, angles.sin() * scale


@pytest.mark.parametrize('architecture', ['InternLM2ForCausalLM', 'LlamaForCausalLM'])
@pytest.mark.parametrize('length', [64, 100, 150])
def test_dynamic_ntk_grows_the_base_beyond_the_trained_length(architecture: str, length: int) -> None:
    rope = dict(max_position_embeddings=100, rope_scaling=dict(type='dynamic', factor=2.0))
    growth = 2.0 * max(length, 100) / 100 - 1.0
    base = THETA * growth ** (HEAD / (HEAD - 2))
    torch.testing.assert_close(rotary_of(architecture, length, **rope), by_formula(length, base=base))


def test_linear_scaling_stretches_positions() -> None:
    rope = dict(rope_scaling=dict(type='linear', factor=4.0))
    torch.testing.assert_close(rotary_of('InternLM2ForCausalLM', 40, **rope), by_formula(40, stretch=4.0))


@pytest.mark.parametrize('name', ['su', 'longrope', 'yarn'])
@pytest.mark.parametrize('length', [60, 90])
def test_phi3_takes_short_or_long_factors_by_the_length(name: str, length: int) -> None:
    short, long = [1.0, 1.1, 1.2, 1.3], [1.0, 2.0, 4.0, 8.0]
    rope = dict(
        max_position_embeddings=256,
        original_max_position_embeddings=64,
        rope_scaling=dict(type=name, short_factor=short, long_factor=long),
    )
    scale = math.sqrt(1 + math.log(256 / 64) / math.log(64))
    if name == 'yarn':
        scale = 0.1 * math.log(256 / 64) + 1
    expected = by_formula(length, factors=long if length > 64 else short, scale=scale)
    torch.testing.assert_close(rotary_of('Phi3ForCausalLM', length, **rope), expected)


def test_settings_are_written_as_older_readers_expect_them() -> None:
    rope = dict(type='dynamic', factor=2.0)
    config = language_config(
        dict(
            LANGUAGE, architectures=['InternLM2ForCausalLM'], rope_theta=THETA, rope_scaling=rope, bias=False
        )
    )
    settings = published_settings(config)
    assert (settings['rope_theta'], settings['rope_scaling'], settings['model_type']) == (
        THETA,
        rope,
        'internlm2',
    )
    again = language_config(settings)
    assert again.rope_parameters['factor'] == 2.0 and again.rope_parameters['rope_theta'] == THETA


@pytest.mark.parametrize('name', ['su', 'longrope', 'yarn'])
def test_a_folders_name_of_the_scaling_is_kept(name: str) -> None:
    rope = dict(type=name, short_factor=[1.0] * 4, long_factor=[2.0] * 4)
    lengths = dict(max_position_embeddings=256, original_max_position_embeddings=64)
    given = dict(LANGUAGE, architectures=['Phi3ForCausalLM'], rope_scaling=rope, **lengths)
    settings = published_settings(language_config(given))
    assert {key: settings['rope_scaling'][key] for key in rope} == rope
    assert rope == dict(type=name, short_factor=[1.0] * 4, long_factor=[2.0] * 4), 'not written into'
    again = language_config(settings)
    assert again.rope_parameters == language_config(given).rope_parameters
    assert language_config(again) is again


def test_families_know_their_adapters() -> None:
    for architecture, family in FAMILIES.items():
        config = language_config(dict(LANGUAGE, architectures=[architecture]))
        with torch.device('meta'):
            model = family.model_class(config)
        names = [name for name, _ in model.named_modules()]
        for target in family.lora_targets:
            assert sum(name.endswith(target) for name in names) == LANGUAGE['num_hidden_layers'], target


def test_an_architecture_without_a_family_is_told() -> None:
    with pytest.raises(ConfigError, match="names 'nothing'; known are"):
        language_config({})
