"""Quantised folders read as plain weights, against packings written out here number by number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel

import internvl_mm
from internvl_mm.models import hf_internvl_chat
from internvl_mm.models.convert.quantised import dequantise_awq, dequantise_int8, unpack_awq
from internvl_mm.utils.errors import CheckpointError
from tests.test_models.tiny_chat import GREEDY, edit_config, pixels, tokenizer_of, write_folder

GROUP = 8
# Output feature of the n-th lowest four bits, as AutoAWQ's packer names it.
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def pack(numbers: list[list[int]]) -> Tensor:
    """Rows of whole numbers below 16 to int32, eight in one, in Python's own integers."""
    rows = []
    for row in numbers:
        words = []
        for start in range(0, len(row), 8):
            word = sum(row[start + feature] << (4 * place) for place, feature in enumerate(ORDER))
            words.append(word - 2**32 if word >= 2**31 else word)
        rows.append(words)
    return torch.tensor(rows, dtype=torch.int32)


def quantise_awq(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Four bits with a zero and a scale for each output and every GROUP inputs; also what they stand for."""
    outputs, inputs = weight.shape
    numbers = [[0] * outputs for _ in range(inputs)]
    zeros = [[0] * outputs for _ in range(inputs // GROUP)]
    scales = torch.zeros(inputs // GROUP, outputs, dtype=torch.float16)
    plain = torch.zeros(outputs, inputs, dtype=torch.float16)
    for group in range(inputs // GROUP):
        for output in range(outputs):
            part = weight[output, group * GROUP : (group + 1) * GROUP].float()
            scale = torch.tensor(max((part.max() - part.min()).item() / 15, 1e-4), dtype=torch.float16)
            zero = min(max(round(-part.min().item() / scale.item()), 0), 15)
            scales[group, output], zeros[group][output] = scale, zero
            for place, value in enumerate(part.tolist()):
                number = min(max(round(value / scale.item()) + zero, 0), 15)
                numbers[group * GROUP + place][output] = number
                plain[output, group * GROUP + place] = (number - zero) * scale
    return dict(qweight=pack(numbers), qzeros=pack(zeros), scales=scales), plain


def quantise_int8(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    largest = weight.float().abs().amax(1)
    numbers = (weight.float() / largest[:, None] * 127).round().to(torch.int8)
    plain = numbers.float() * (largest[:, None] / 127)
    return dict(weight=numbers, SCB=largest, weight_format=torch.tensor(0, dtype=torch.uint8)), plain


def write_quantised(folder: Path, architecture: str, kind: str) -> tuple[Path, dict[str, Tensor]]:
    """A folder whose language model's linear layers are quantised, and the plain tensors they stand for."""
    write_folder(folder, architecture)
    stored, plain = {}, {}
    for name, tensor in load_file(folder / 'model.safetensors').items():
        linear = name.startswith('language_model.model.layers') and tensor.ndim == 2
        tensor = tensor.half()
        if not linear:
            stored[name] = plain[name] = tensor
            continue
        parts, value = (quantise_awq if kind == 'awq' else quantise_int8)(tensor)
        stored |= {f'{name.removesuffix("weight")}{part}': packed for part, packed in parts.items()}
        plain[name] = value.half()
    save_file(stored, folder / 'model.safetensors', metadata={'format': 'pt'})
    settings = dict(quant_method='awq', bits=4, group_size=GROUP, version='gemm', zero_point=True)
    if kind == 'int8':
        settings = dict(quant_method='bitsandbytes', load_in_8bit=True, llm_int8_threshold=6.0)
    edit_config(folder, quantization_config=settings, dtype='float16')
    return folder, plain


def test_packed_numbers_come_out_in_order() -> None:
    numbers = [[(3 * row + 7 * column) % 16 for column in range(24)] for row in range(5)]
    assert unpack_awq(pack(numbers)).tolist() == numbers


@pytest.mark.parametrize('architecture', ['InternLM2ForCausalLM', 'Qwen2ForCausalLM', 'Phi3ForCausalLM'])
@pytest.mark.parametrize('kind', ['awq', 'int8'])
def test_quantised_folders_load_as_plain_weights_and_chat(
    architecture: str, kind: str, tmp_path: Path
) -> None:
    folder, plain = write_quantised(tmp_path / 'model', architecture, kind)
    model = internvl_mm.load_model(folder)
    auto = AutoModel.from_pretrained(folder, torch_dtype=torch.float16, trust_remote_code=True).eval()
    for loaded in (model, auto):
        loaded.save_pretrained(tmp_path / 'plain')
        stored = load_file(tmp_path / 'plain' / 'model.safetensors')
        assert stored.keys() == plain.keys()
        for name, tensor in plain.items():
            assert stored[name].dtype == torch.float16
            torch.testing.assert_close(stored[name], tensor, atol=0, rtol=0, msg=name)
        # a plain folder now, which says nothing of quantisation
        assert not json.loads((tmp_path / 'plain' / 'config.json').read_text()).get('quantization_config')
    answer = model.float().chat(tokenizer_of(architecture), pixels(1), 'What is it?', GREEDY)
    assert isinstance(answer, str)


def test_what_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # with it AutoModel reads 4 bits: tests/test_models/test_four_bit.py
    monkeypatch.setattr(hf_internvl_chat, 'find_spec', lambda name: None)
    folder, _ = write_quantised(tmp_path / 'model', 'Qwen2ForCausalLM', 'awq')
    cases = [
        (dict(quant_method='bitsandbytes', load_in_4bit=True), 'needs bitsandbytes and'),
        (
            dict(quant_method='gptq', bits=4),
            "quantised \\(gptq, 4 bits\\), which needs the library that wrote 'gptq'",
        ),
        (dict(quant_method='awq', bits=4, version='gemv'), "AWQ of version 'gemv' in 4 bits"),
        (dict(quant_method='awq', bits=8), "AWQ of version 'gemm' in 8 bits"),
    ]
    for settings, message in cases:
        edit_config(folder, quantization_config=settings)
        for load in (internvl_mm.load_model, AutoModel.from_pretrained):
            with pytest.raises(CheckpointError, match=message):
                load(folder)
    edit_config(folder, quantization_config=dict(quant_method='awq', bits=4))
    weights = load_file(folder / 'model.safetensors')
    zeros = next(name for name in weights if name.endswith('.qzeros'))
    save_file({n: t for n, t in weights.items() if n != zeros}, folder / 'model.safetensors')
    with pytest.raises(CheckpointError, match=f'{zeros} is missing beside the other parts'):
        internvl_mm.load_model(folder)
    whole = torch.zeros(8, 1, dtype=torch.int32)
    with pytest.raises(CheckpointError, match='8 input features with zeros'):
        dequantise_awq(whole, whole[:3], torch.zeros(3, 8))
    with pytest.raises(CheckpointError, match='AWQ in 3 bits'):
        unpack_awq(whole, bits=3)
    with pytest.raises(CheckpointError, match='an 8-bit weight is int8 with one scale per row'):
        dequantise_int8(torch.zeros(3, 2), torch.zeros(3), torch.float16)
