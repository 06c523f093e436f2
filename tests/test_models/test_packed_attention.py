"""Packed rows see what their samples would see alone, also through sliding windows."""

from __future__ import annotations

import pytest
import torch
from transformers import Phi3Config, Phi3ForCausalLM, Qwen2Config, Qwen2ForCausalLM

from internvl_mm.models.layers.packed_attention import PACKED, packed_arguments

SIZES = dict(
    vocab_size=100,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    initializer_range=0.2,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)
LENGTHS = (12, 3, 9)


@pytest.mark.parametrize('window', [None, 5])
@pytest.mark.parametrize('family', ['phi3', 'qwen2'])
def test_samples_of_a_row_are_as_alone(family: str, window: int | None) -> None:
    torch.manual_seed(0)
    if family == 'phi3':
        model = Phi3ForCausalLM(Phi3Config(**SIZES, sliding_window=window)).eval()
    else:  # its first layer sees everything
        options = dict(use_sliding_window=bool(window), sliding_window=window, max_window_layers=1)
        model = Qwen2ForCausalLM(Qwen2Config(**SIZES, **options)).eval()
    ids = torch.randint(1, 100, (1, sum(LENGTHS)))
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    bounds = torch.tensor([0, *LENGTHS]).cumsum(0).int()
    with torch.no_grad():
        alone = torch.cat([model(part).logits for part in ids.split(LENGTHS, dim=1)], dim=1)
        model.set_attn_implementation(PACKED)
        packed = model(ids, position_ids=positions, **packed_arguments(bounds)).logits
    assert (alone - packed).abs().max() < 1e-5
