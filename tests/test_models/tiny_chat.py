"""Chat models at their smallest, in the published layout, with the tokenizer of a golden case."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from internvl_mm.models.hf_internvl_chat import InternVLChatConfig, InternVLChatModel

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
GREEDY: dict[str, Any] = dict(max_new_tokens=6, do_sample=False)
VISION = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, image_size=56)
NORMS_300M = dict(norm_type='layer_norm', qk_normalization=False, qkv_bias=True)
LANGUAGE = dict(
    vocab_size=600,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    bos_token_id=1,
    eos_token_id=0,
    pad_token_id=0,
)
# Template and golden case of the tokenizer, by architecture.
FAMILY_CASES = {
    'LlamaForCausalLM': ('Hermes-2', 'chat_qwen2_tiny'),
    'Qwen2ForCausalLM': ('internvl2_5', 'chat_qwen2_tiny'),
    'Qwen3ForCausalLM': ('internvl2_5', 'chat_qwen2_tiny'),
    'Phi3ForCausalLM': ('phi3-chat', 'chat_phi3_tiny'),
    'InternLM2ForCausalLM': ('internlm2-chat', 'chat_internlm2_tiny'),
}


def tiny_config(architecture: str = 'Qwen2ForCausalLM', **settings: Any) -> InternVLChatConfig:
    """A configuration; settings of the language model go under ``llm``, of the vision tower under ``vision``."""
    llm = {**LANGUAGE, 'architectures': [architecture], **settings.pop('llm', {})}
    vision = {**VISION, **NORMS_300M, **settings.pop('vision', {})}
    chat = dict(template=FAMILY_CASES[architecture][0], ps_version='v2', force_image_size=56)
    return InternVLChatConfig(vision_config=vision, llm_config=llm, **{**chat, **settings})


def tiny_model(
    architecture: str = 'Qwen2ForCausalLM', *, seed: int = 0, **settings: Any
) -> InternVLChatModel:
    """A model with random weights, large enough to give different answers to different questions."""
    torch.manual_seed(seed)
    model = InternVLChatModel(tiny_config(architecture, **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model.eval()


def tokenizer_of(architecture: str = 'Qwen2ForCausalLM') -> Any:
    """The tokenizer that goes with the template of an architecture."""
    return AutoTokenizer.from_pretrained(GOLDEN / FAMILY_CASES[architecture][1])


def write_folder(
    folder: Path, architecture: str = 'Qwen2ForCausalLM', **settings: Any
) -> tuple[Path, InternVLChatModel]:
    """Save a model with its tokenizer."""
    model = tiny_model(architecture, **settings)
    model.save_pretrained(folder)
    for file in (GOLDEN / FAMILY_CASES[architecture][1]).glob('*token*.json'):
        shutil.copyfile(file, folder / file.name)
    return folder, model


def edit_config(folder: Path, **changes: Any) -> None:
    """Change settings of a folder's config.json."""
    settings = json.loads((folder / 'config.json').read_text())
    (folder / 'config.json').write_text(json.dumps({**settings, **changes}))


def pixels(tiles: int = 3, size: int = 56) -> Tensor:
    """Random tiles, always the same."""
    return torch.randn(tiles, 3, size, size, generator=torch.Generator().manual_seed(1))
