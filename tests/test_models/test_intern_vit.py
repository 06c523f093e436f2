"""InternViT: published sizes, outputs, freezing, drop path, checkpointing, windows, and mistakes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from internvl_mm.models.backbones import InternViT
from internvl_mm.utils.errors import ConfigError, DataError

TINY = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, image_size=56)
SIZE_300M = dict(
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
    norm_type='layer_norm',
    qk_normalization=False,
    qkv_bias=True,
)


def tiny(**settings) -> InternViT:
    """A small 6B-like model whose every parameter matters."""
    backbone = InternViT(**{**TINY, **settings})
    for name, parameter in backbone.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if 'norm' in name else 0.0, std=0.2)
    return backbone


@pytest.mark.parametrize(
    ('settings', 'parameters', 'tensors'),
    [
        (dict(image_size=224), 5_902_793_600, 628),
        (dict(image_size=448), 5_905_251_200, 628),
        (dict(image_size=448, num_hidden_layers=45), 5_536_496_000, 589),
        (dict(SIZE_300M, image_size=448), 304_012_288, 340),
    ],
    ids=['6B-224px', '6B-448px-V1-0', '6B-448px-V1-2/V1-5/V2-5', '300M-448px'],
)
def test_published_sizes(settings: dict, parameters: int, tensors: int) -> None:
    with torch.device('meta'):
        backbone = InternViT(**settings)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == parameters
    assert len(backbone.state_dict()) == tensors


def test_hidden_states_start_with_the_embeddings_and_end_with_the_tokens() -> None:
    backbone, pixels = tiny(output_hidden_states=True).eval(), torch.randn(2, 3, 56, 84)
    features = backbone(pixels)
    assert features.grid == (4, 6)
    assert len(features.hidden_states) == 4
    assert torch.equal(features.hidden_states[0], backbone.embeddings(pixels))
    assert torch.equal(features.hidden_states[-1], features.tokens)
    assert torch.equal(features.pooled, features.tokens[:, 0])
    # block k turns hidden state k into hidden state k+1
    second = backbone.encoder.layers[1](features.hidden_states[1], features.grid)
    assert torch.equal(features.hidden_states[2], second)


def test_taps_are_maps_of_block_outputs_without_class_token() -> None:
    backbone = tiny(output_hidden_states=True, out_indices=(0, 2)).eval()
    features = backbone(torch.randn(1, 3, 56, 84))
    assert [tuple(tap.shape) for tap in features.maps] == [(1, 32, 4, 6)] * 2
    assert features.strides == backbone.strides == (14.0, 14.0)
    assert torch.equal(features.maps[0].flatten(2).transpose(1, 2), features.hidden_states[1][:, 1:])
    half = tiny(out_indices=(2,)).bfloat16()
    assert half(torch.randn(1, 3, 56, 56)).maps[0].dtype == torch.float32


def test_embedded_tokens_can_be_given_instead_of_pixels() -> None:
    backbone, pixels = tiny().eval(), torch.randn(1, 3, 56, 56)
    embedded = backbone.embeddings(pixels)
    assert torch.equal(backbone.forward_tokens(embedded, (4, 4)).tokens, backbone(pixels).tokens)


def test_eager_and_sdpa_agree() -> None:
    eager, sdpa = tiny(attention='eager').eval(), tiny(attention='sdpa').eval()
    sdpa.load_state_dict(eager.state_dict())
    pixels = torch.randn(2, 3, 56, 56)
    torch.testing.assert_close(eager(pixels).tokens, sdpa(pixels).tokens, rtol=0, atol=1e-5)


def test_layer_ids_cover_every_parameter() -> None:
    backbone = tiny()
    ids = {name: backbone.layer_id(name) for name, _ in backbone.named_parameters()}
    assert set(ids.values()) == {0, 1, 2, 3}
    assert ids['embeddings.class_embedding'] == ids['embeddings.patch_embedding.weight'] == 0
    assert ids['encoder.layers.0.attn.qkv.weight'] == 1
    assert ids['encoder.layers.2.ls2'] == backbone.num_layers
    assert backbone.layer_id('norm.weight') == backbone.num_layers + 1


@pytest.mark.parametrize(
    ('up_to', 'trainable_ids'), [(None, {0, 1, 2, 3}), (1, {1, 2, 3}), (3, {3}), ('all', set())]
)
def test_freezing_follows_layer_ids(up_to, trainable_ids: set[int]) -> None:
    backbone = tiny(frozen=up_to)
    trainable = {backbone.layer_id(name) for name, p in backbone.named_parameters() if p.requires_grad}
    assert trainable == trainable_ids


def test_a_wholly_frozen_backbone_stays_in_evaluation_mode_and_thaws() -> None:
    backbone = tiny(frozen='all', drop_path_rate=0.9).train()
    pixels = torch.randn(2, 3, 56, 56)
    assert not backbone.training
    assert torch.equal(backbone(pixels).tokens, backbone(pixels).tokens)
    assert not backbone(pixels).tokens.requires_grad
    backbone.freeze(None)
    assert backbone.train().training
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_drop_path_grows_linearly_and_drops_scaled_branches_per_sample() -> None:
    backbone = tiny(drop_path_rate=0.5, num_hidden_layers=3)
    blocks = backbone.encoder.layers
    assert [0.0 if b.drop_path is None else b.drop_path.drop_prob for b in blocks] == pytest.approx(
        [0, 0.25, 0.5]
    )
    even = tiny(drop_path_rate=(0.2, 0.2, 0.2), num_hidden_layers=3).encoder.layers
    assert [block.drop_path.drop_prob for block in even] == [0.2, 0.2, 0.2]
    # A branch of ones scaled by ls comes out as 0 or ls / keep for a whole sample: the scale comes first.
    block = blocks[2].train()
    x, branch = torch.zeros(64, 5, 32), torch.ones(64, 5, 32)
    added = block._add(x, branch, block.ls1)
    kept = added[:, 0, 0] != 0
    assert 10 < int(kept.sum()) < 54
    torch.testing.assert_close(added[kept], (block.ls1 / 0.5).expand_as(added[kept]))
    assert torch.equal(added[~kept], torch.zeros_like(added[~kept]))
    assert torch.equal(block.eval()._add(x, branch, block.ls1), block.ls1.expand_as(x))


@pytest.mark.parametrize('frozen', [None, 1])
def test_gradient_checkpointing_changes_no_gradient(frozen: int | None) -> None:
    """Also with frozen embeddings, where the reentrant form would silently give the blocks no gradient."""
    plain, saving = tiny(frozen=frozen), tiny(frozen=frozen, gradient_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    pixels = torch.randn(2, 3, 56, 56)
    for backbone in (plain, saving):
        backbone.train()(pixels).tokens.square().mean().backward()
    for (name, a), (_, b) in zip(plain.named_parameters(), saving.named_parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None) == (frozen == 1 and name.startswith('embeddings.'))
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad)


def test_gradient_checkpointing_recomputes_blocks_where_there_are_gradients() -> None:
    """Also in evaluation mode, in which the frozen blocks of an adapter stay."""
    backbone = tiny(gradient_checkpointing=True)
    calls = []
    backbone.encoder.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    for mode in (True, False):
        calls.clear()
        backbone.train(mode)(torch.randn(1, 3, 56, 56)).tokens.sum().backward()
        assert len(calls) == 2
    with torch.no_grad():
        backbone(torch.randn(1, 3, 56, 56))
    assert len(calls) == 3


def test_windows_are_local_except_in_global_blocks() -> None:
    def influence(**settings) -> torch.Tensor:
        """Patches whose output moves with the first patch of the image."""
        backbone = tiny(image_size=112, use_class_token=False, num_hidden_layers=1, **settings).eval()
        pixels = torch.randn(1, 3, 112, 112)
        changed = pixels.clone()
        changed[..., :14, :14] += 1
        return (backbone(pixels).tokens - backbone(changed).tokens).abs().amax(-1).unflatten(1, (8, 8))[
            0
        ] > 1e-6

    local = influence(window_size=4)
    assert local[:4, :4].all()
    assert not local[4:].any() and not local[:, 4:].any()
    assert influence(window_size=4, global_blocks=(0,)).all()


def test_without_class_token_only_patch_positions_are_used() -> None:
    backbone = tiny(use_class_token=False, out_indices=(2,)).eval()
    features = backbone(torch.randn(1, 3, 56, 84))
    assert features.tokens.shape == (1, 24, 32)
    assert features.maps[0].shape == (1, 32, 4, 6)


def test_resizing_positions_keeps_the_class_slot_and_equals_resizing_on_the_fly() -> None:
    backbone, pixels = tiny().eval(), torch.randn(1, 3, 84, 84)
    before, class_slot = backbone(pixels).tokens, backbone.embeddings.position_embedding[:, 0].clone()
    backbone.resize_positions(84)
    assert backbone.embeddings.position_embedding.shape == (1, 37, 32)
    assert backbone.image_size == 84
    assert torch.equal(backbone.embeddings.position_embedding[:, 0], class_slot)
    torch.testing.assert_close(backbone(pixels).tokens, before)


def test_pixels_are_cast_to_the_weights() -> None:
    backbone = tiny().bfloat16().eval()
    assert backbone(torch.randn(1, 3, 56, 56)).tokens.dtype == torch.bfloat16


def test_the_residual_stream_is_not_rounded_under_autocast() -> None:
    """Embeddings are summed in the dtype of the weights, as published; only the patches themselves are half."""
    backbone, pixels = tiny(output_hidden_states=True).eval(), torch.randn(1, 3, 56, 56)
    with torch.autocast('cpu', torch.bfloat16):
        states = backbone(pixels).hidden_states
    assert {state.dtype for state in states} == {torch.float32}
    embeddings = backbone.embeddings
    class_token = embeddings.class_embedding + embeddings.position_embedding[:, :1]
    assert torch.equal(states[0][:, :1], class_token)


def test_weights_from_scratch_are_drawn_as_published() -> None:
    backbone = InternViT(**TINY, initializer_factor=0.3)
    backbone.init_weights()
    assert backbone.embeddings.position_embedding.std().item() == pytest.approx(1, rel=0.1)
    assert backbone.embeddings.class_embedding.std().item() == pytest.approx(1, rel=0.5)
    assert torch.equal(backbone.encoder.layers[2].ls1, torch.full((32,), 0.3))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(window_size=4), 'window_size needs use_class_token=False'),
        (dict(out_indices=(3,)), r'out_indices=\(3,\) names block 3, but this backbone has blocks 0 to 2'),
        (dict(global_blocks=(-1,)), r'global_blocks=\(-1,\) names block -1'),
        (dict(frozen=9), "frozen=9: allowed are 'all' and 0 to 5"),
        (dict(num_attention_heads=5), 'hidden_size=32 is not divisible by num_attention_heads=5'),
    ],
)
def test_impossible_settings_say_what_is_possible(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InternViT(**{**TINY, **settings})


def test_image_sizes_off_the_patch_grid_are_refused() -> None:
    with pytest.raises(DataError, match='image of 56x60 pixels is not a multiple of patch_size=14'):
        tiny()(torch.randn(1, 3, 56, 60))
    with pytest.raises(DataError, match=r'the shape \[3, 56, 56\] instead of \[B, C, H, W\]: give a batch'):
        tiny()(torch.randn(3, 56, 56))
    with pytest.raises(ConfigError, match='image_size=60 is not a multiple of patch_size=14'):
        tiny().resize_positions(60)


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (
            dict(num_attention_heads=0),
            'num_attention_heads=0 is not possible: it must be a whole number from 1',
        ),
        (dict(patch_size=-14), 'patch_size=-14 is not possible'),
        (dict(num_hidden_layers=2.0), r'num_hidden_layers=2\.0 is not possible'),
        (dict(window_size=0, use_class_token=False), 'window_size=0 is not possible'),
        (dict(window_size=(2, 0, 2), use_class_token=False), 'window_size=0 is not possible'),
        (
            dict(window_size=(2, 2), use_class_token=False),
            r'window_size=\(2, 2\) has 2 values, but there are 3 blocks',
        ),
        (
            dict(drop_path_rate=(0.1,)),
            r'has 1 values, but there are \d blocks: give one number, or one per block',
        ),
        (dict(drop_path_rate=1.0), r'drop_path_rate=1\.0 is not possible: it must be from 0 up to'),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InternViT(**{**TINY, **setting})
