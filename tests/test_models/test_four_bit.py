"""Weights in 4 and 8 bits by bitsandbytes, on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from torch import nn
from transformers import AutoModel

import internvl_mm
from internvl_mm.models.layers.four_bit import FourBitLinear
from internvl_mm.models.tuning import Lora, PartTuning, dequantise
from internvl_mm.utils.errors import CheckpointError, ConfigError
from tests.test_models.tiny_chat import GREEDY, pixels, tokenizer_of, write_folder
from tests.test_models.tiny_tuning import batch_of, chat_settings, conversation, tiny_task

WIDE = dict(
    llm=dict(hidden_size=64, intermediate_size=128), vision=dict(hidden_size=64, intermediate_size=128)
)


def linear(seed: int = 0, inputs: int = 64) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(inputs, 20)


# The sixteen values, as table 'appendix E' of the paper prints them.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


def reference(layer: nn.Linear) -> torch.Tensor:
    """What nf4 with doubly quantised scales makes of a weight."""
    return dequantize_4bit(*quantize_4bit(layer.weight.data, compress_statistics=True, quant_type='nf4'))


def test_the_weight_is_packed_and_computes_with_its_rounded_values() -> None:
    plain, inputs = linear(), torch.randn(5, 64)
    layer = FourBitLinear(plain).eval()
    assert layer.weight.dtype == torch.uint8 and layer.weight.numel() == 20 * 64 // 2
    expected = nn.functional.linear(inputs, reference(plain), plain.bias)
    torch.testing.assert_close(layer(inputs), expected)
    # Each value is the nearest of sixteen, but for the rounding of the scales.
    largest = plain.weight.abs().amax(1, keepdim=True)  # a block is a row here
    choices = torch.tensor(NF4) * largest[..., None]  # [O, 1, 16]
    nearest = (plain.weight[..., None] - choices).abs().argmin(-1, keepdim=True)  # [O, I, 1]
    expected = choices.expand(-1, 64, -1).gather(-1, nearest)[..., 0]
    torch.testing.assert_close(layer.to_linear().weight.data, expected, atol=2e-3, rtol=0.02)
    # an evaluation without gradients leaves everything as it is
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    with torch.no_grad():
        layer(inputs.bfloat16())
    after = layer.to('cpu').state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


def test_packed_and_plain_weights_are_taken_up() -> None:
    other, inputs = FourBitLinear(linear(1)), torch.randn(5, 64)
    for source in (other, linear(1)):
        layer = FourBitLinear(linear(0))
        weight = layer.weight
        layer.load_state_dict(source.state_dict())
        assert layer.weight is weight  # which an optimiser may have
        torch.testing.assert_close(layer(inputs), other(inputs), atol=0, rtol=0)


def test_packed_weights_without_scales_are_refused() -> None:
    state = FourBitLinear(linear(1)).state_dict()
    bare = {name: tensor for name, tensor in state.items() if name in ('weight', 'bias')}
    with pytest.raises(RuntimeError, match=r'its scales \(weight\.absmax and others\) are missing'):
        FourBitLinear(linear(0)).load_state_dict(bare)


def test_a_plain_layer_of_the_same_values_comes_back() -> None:
    plain = linear()
    back = FourBitLinear(plain).to_linear()
    assert type(back) is nn.Linear and back.weight.dtype == torch.float32
    torch.testing.assert_close(back.weight.data, reference(plain), atol=0, rtol=0)
    torch.testing.assert_close(back.bias, plain.bias, atol=0, rtol=0)


@pytest.mark.parametrize('dora', [False, True])
def test_adapters_learn_beside_packed_weights(dora: bool) -> None:
    tuning = PartTuning(train='none', lora=Lora(rank=2, dora=dora, quantise='nf4', dropout=0.0))
    task = tiny_task(chat=chat_settings(**WIDE), language=tuning, vision=tuning)
    packed = [layer for layer in task.modules() if isinstance(layer, FourBitLinear)]
    assert len(packed) == 2 * 7 + 3 * 4 and all(layer.weight.dtype == torch.uint8 for layer in packed)
    batch = batch_of(conversation(task, 0), conversation(task, 1))
    loss = sum(task.loss(batch, []).values())
    loss.backward()
    trained = {name for name, parameter in task.named_parameters() if parameter.grad is not None}
    assert trained and all('.lora_' in name or '.mlp1.' in name for name in trained)
    # the same values without packing
    dequantise(task)
    assert not any(isinstance(layer, FourBitLinear) for layer in task.modules())
    torch.testing.assert_close(sum(task.loss(batch, []).values()), loss, atol=1e-5, rtol=1e-5)


def test_rows_that_are_no_multiple_of_a_block_are_told() -> None:
    with pytest.raises(ConfigError, match=r'q_proj of Qwen2ForCausalLM has 32 inputs, .* blocks of 64'):
        tiny_task(language=PartTuning(train='none', lora=Lora(rank=2, quantise='nf4')))


@pytest.mark.parametrize('architecture', ['Qwen2ForCausalLM', 'InternLM2ForCausalLM'])
@pytest.mark.parametrize('bits', [4, 8])
def test_folders_are_loaded_in_few_bits_as_model_cards_show(
    architecture: str, bits: int, tmp_path: Path
) -> None:
    folder, plain = write_folder(tmp_path / 'model', architecture, **WIDE)
    settings = dict(torch_dtype=torch.bfloat16, low_cpu_mem_usage=True, trust_remote_code=True)
    model = AutoModel.from_pretrained(folder, **settings, **{f'load_in_{bits}bit': True}).eval()
    layers = [type(layer).__name__ for layer in model.modules() if isinstance(layer, nn.Linear)]
    # all but the head
    assert layers.count('Linear') == 1 and set(layers) - {'Linear'} == {
        'Linear4bit' if bits == 4 else 'Linear8bitLt'
    }
    tokenizer, images = tokenizer_of(architecture), pixels(1).bfloat16()
    if architecture == 'InternLM2ForCausalLM':
        with pytest.raises(ConfigError, match=r'model\.dequantize\(\)'):
            model.save_pretrained(tmp_path / 'small')
    else:
        # Before it computes: bitsandbytes' kernel for AVX-512 changes weights, which come back rounded.
        model.save_pretrained(tmp_path / 'small')
    assert model.chat(tokenizer, images, 'What is it?', GREEDY)
    with torch.no_grad():
        features, exact = model.extract_feature(images).float(), plain.extract_feature(images.float())
    assert similarity(features, exact) > (0.97 if bits == 4 else 0.999)
    if architecture == 'InternLM2ForCausalLM':
        model.dequantize()
        model.save_pretrained(tmp_path / 'plain')
        assert internvl_mm.load_model(tmp_path / 'plain').chat(tokenizer, images, 'What is it?', GREEDY)
        return
    if bits == 4:
        with pytest.raises(CheckpointError, match=r'needs bitsandbytes and transformers\.AutoModel'):
            internvl_mm.load_model(tmp_path / 'small')
    again = AutoModel.from_pretrained(tmp_path / 'small', trust_remote_code=True).eval()
    # 8 bits are read as plain weights where there is no GPU
    assert any(type(layer).__name__ == 'Linear4bit' for layer in again.modules()) == (bits == 4)
    assert not any(type(layer).__name__ == 'Linear8bitLt' for layer in again.modules())
    with torch.no_grad():
        assert similarity(again.extract_feature(images).float(), features) > 0.999


def similarity(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
