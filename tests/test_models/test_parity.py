"""Our InternViT against the independent ones of timm and transformers, with shared weights."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn
from transformers import InternVLVisionConfig, InternVLVisionModel

from internvl_mm.models.backbones import InternViT
from internvl_mm.models.convert import from_hf, to_hf

SMALL = dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, image_size=56)
KINDS = {
    '300m': dict(
        SMALL, norm_type='layer_norm', qk_normalization=False, qkv_bias=True, initializer_factor=1.0
    ),
    '6b': dict(SMALL, norm_type='rms_norm', qk_normalization=True, qkv_bias=False, initializer_factor=0.1),
}


def randomised(module: nn.Module) -> nn.Module:
    """No parameter at its neutral value, so that none can be left out unnoticed."""
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if 'norm' in name and name.endswith('weight') else 0.0, std=0.2)
    return module


def native_model(kind: str) -> InternVLVisionModel:
    settings = KINDS[kind]
    config = InternVLVisionConfig(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        image_size=56,
        norm_type=settings['norm_type'],
        use_qk_norm=settings['qk_normalization'],
        attention_bias=settings['qkv_bias'],
    )
    return InternVLVisionModel(config)


def timm_model() -> nn.Module:
    sizes = dict(img_size=56, embed_dim=48, depth=3, num_heads=4, mlp_ratio=2, num_classes=0)
    return timm.create_model('vit_intern300m_patch14_448', **sizes)


def gradients(module: nn.Module, tokens: Tensor) -> dict[str, Tensor]:
    """Gradients of a loss every token takes part in, by the module's own names."""
    weights = torch.linspace(-1, 1, tokens.numel()).view_as(tokens)
    (tokens * weights).sum().backward()
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def assert_same_tensors(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        scale = max(1.0, float(tensor.abs().max()))
        torch.testing.assert_close(
            tensor, theirs[name], rtol=0, atol=1e-5 * scale, msg=lambda m, n=name: f'{n}: {m}'
        )


@pytest.mark.parametrize('size', [(56, 56), (112, 56), (84, 84)])
@pytest.mark.parametrize('kind', KINDS)
def test_forward_and_gradients_equal_transformers(kind: str, size: tuple[int, int]) -> None:
    ours, theirs = randomised(InternViT(**KINDS[kind])), native_model(kind)
    theirs.load_state_dict(from_hf(ours.state_dict(), 'native'), strict=True)
    pixels = torch.randn(2, 3, *size)

    our_tokens, their_tokens = ours(pixels).tokens, theirs(pixels).last_hidden_state
    torch.testing.assert_close(our_tokens, their_tokens, rtol=0, atol=1e-5)
    assert_same_tensors(
        to_hf(gradients(ours, our_tokens)).tensors, to_hf(gradients(theirs, their_tokens)).tensors
    )


@pytest.mark.parametrize(
    'size', [(56, 56)]
)  # elsewhere timm antialiases the positions, the published code does not
def test_forward_and_gradients_equal_timm(size: tuple[int, int]) -> None:
    ours, theirs = randomised(InternViT(**KINDS['300m'])), timm_model()
    theirs.load_state_dict(from_hf(ours.state_dict(), 'timm'), strict=True)
    pixels = torch.randn(2, 3, *size)

    our_tokens, their_tokens = ours(pixels).tokens, theirs.forward_features(pixels)
    torch.testing.assert_close(our_tokens, their_tokens, rtol=0, atol=1e-5)
    assert_same_tensors(
        to_hf(gradients(ours, our_tokens)).tensors, to_hf(gradients(theirs, their_tokens)).tensors
    )


def test_timm_antialiases_positions_and_we_do_not() -> None:
    """The reason why the comparison with timm stays at the native size."""
    ours, theirs = randomised(InternViT(**KINDS['300m'])).eval(), timm_model().eval()
    theirs.load_state_dict(from_hf(ours.state_dict(), 'timm'))
    smaller = torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        assert (ours(smaller).tokens - theirs.forward_features(smaller)).abs().max() > 1e-2


def test_native_state_of_every_size_is_complete_in_both_directions() -> None:
    for kind, settings in KINDS.items():
        ours, theirs = InternViT(**settings), native_model(kind)
        names = {name: tensor.shape for name, tensor in from_hf(ours.state_dict(), 'native').items()}
        assert names == {name: tensor.shape for name, tensor in theirs.state_dict().items()}
        assert to_hf(theirs.state_dict()).tensors.keys() == ours.state_dict().keys()
