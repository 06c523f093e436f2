"""Conversion of whole chat models with a proof: every name accounted for, every byte and the logits compared."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, InternVLForConditionalGeneration

from internvl_mm.models.chat_prompt import token_id
from internvl_mm.models.hf_internvl_chat import InternVLChatModel
from internvl_mm.models.language.tokenizer import InternLM2Tokenizer
from internvl_mm.models.language.tokenizer_fast import as_fast_tokenizer
from internvl_mm.preprocess.chat import load_tokenizer
from internvl_mm.preprocess.chat_text import IMG_CONTEXT, IMG_END, IMG_START
from internvl_mm.utils.console import console, print_table
from internvl_mm.utils.errors import CheckpointError

from .chat import check_shapes, load_chat
from .chat_native import native_names, to_native, to_published
from .files import open_weights, read_json, same_bytes, stored_dtype
from .native_processor import VIDEO, native_processor
from .target import check_target, written_whole

ChatLayout = Literal['chat', 'chat-native', 'projector', 'language']
CHAT_LAYOUTS: tuple[ChatLayout, ...] = ('chat', 'chat-native', 'projector', 'language')
TOLERANCE = 1e-4  # of logits in fp32, as a share of the largest; another order of sums is all that may differ
_NATIVE = 'internvl'  # model type
# Tokenizer and generation files of a folder; Python files are left behind.
_TEXT_FILES = ('*token*.json', '*token*.model', 'vocab.*', 'merges.txt', 'generation_config.json', '*.jinja')
# Names the native processor looks the image tokens up by.
_NATIVE_TOKENS = dict(
    start_image_token=IMG_START,
    end_image_token=IMG_END,
    context_image_token=IMG_CONTEXT,
    video_token=VIDEO,
)


@dataclass(frozen=True)
class ChatConversion:
    """What a conversion did.

    Attributes:
        renamed: Name in the model to names written.
        changed: Names whose dtype, shape or bytes differ when the result is read again; empty when all is well.
        difference: Largest difference of logits on fixed inputs, in fp32; 0 where only a part was written.
        scale: Largest logit of the source.
        merged: Ranks of adapters that were merged, by part.
        written: Names of tokenizer files that came along.
    """

    renamed: dict[str, list[str]]
    changed: tuple[str, ...]
    difference: float
    scale: float
    merged: dict[str, int]
    written: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether every tensor came back and the logits agree."""
        return not self.changed and self.difference <= TOLERANCE * max(self.scale, 1.0)


def is_chat_folder(source: Path) -> bool:
    """Whether a folder holds a whole chat model, of either layout."""
    if not (source / 'config.json').is_file():
        return False
    settings = read_json(source / 'config.json')
    # InternVL-14B's folders have the native model type too, but a qllama_config and no text_config.
    return settings.get('model_type') == 'internvl_chat' or (
        settings.get('model_type') == _NATIVE and 'text_config' in settings
    )


def load_either(source: Path) -> InternVLChatModel:
    """A chat model of either layout as the published class, adapters merged.

    Raises:
        CheckpointError: Neither, or the weights do not fit.
    """
    if not is_chat_folder(source):
        raise CheckpointError(
            f'{source} holds no chat model: its config.json has to be of model type internvl_chat or internvl'
        )
    if read_json(source / 'config.json')['model_type'] != _NATIVE:
        return load_chat(source).eval()
    model, found = InternVLForConditionalGeneration.from_pretrained(
        source,
        dtype=stored_dtype(open_weights(source)) or 'auto',
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # told below, in our words
    )
    check_shapes(found['mismatched_keys'], source)
    if problems := [name for kind in ('missing_keys', 'unexpected_keys') for name in found[kind]]:
        raise CheckpointError(
            f'{source}: {len(problems)} tensors do not fit, such as {sorted(problems)[0]!r}'
        )
    return to_published(model)


def convert_chat(source: Path, target: Path, layout: ChatLayout) -> ChatConversion:
    """Write a chat model, or its projector or language model, in another layout and compare the two.

    Args:
        source: Folder of either layout.
        target: New folder; new file for ``'projector'``.
        layout: What to write; ``'chat'`` is the published layout, in which adapters are merged.

    Raises:
        CheckpointError: The source cannot be read, or the target cannot hold it.
    """
    check_target(target, layout)
    settings = read_json(source / 'config.json') if (source / 'config.json').is_file() else {}
    merged = {part: settings.get(f'use_{part}_lora', 0) for part in ('backbone', 'llm')}
    model = load_either(source)
    context = _context_id(source) if layout in ('chat', 'chat-native') else 0
    before = _logits(model, context)
    with written_whole(target) as partial:
        written = _WRITERS[layout](model, source, partial)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(_PART[layout])}
    again, after = _read_back(target, layout, context)
    names = sorted(tensors.keys() | again.keys())
    return ChatConversion(
        renamed={name: _written_names(name, layout) for name in tensors},
        changed=tuple(name for name in names if not same_bytes(tensors.get(name), again.get(name))),
        difference=0.0 if after is None else float((after - before).abs().max()),
        scale=float(before.abs().max()),
        merged={part: rank for part, rank in merged.items() if rank},
        written=written,
    )


# Names the model's tensors begin with, of what a layout holds.
_PART: dict[ChatLayout, str] = {
    'chat': '',
    'chat-native': '',
    'projector': 'mlp1.',
    'language': 'language_model.',
}


def _write_chat(model: InternVLChatModel, source: Path, target: Path) -> tuple[str, ...]:
    model.save_pretrained(target)
    return _copy_text(source, target)


def _write_native(model: InternVLChatModel, source: Path, target: Path) -> tuple[str, ...]:
    tokenizer = load_tokenizer(str(source))
    native = to_native(model, token_id(tokenizer, IMG_CONTEXT))
    native.save_pretrained(target)
    # Llama's own is read by transformers as it is.
    if type(tokenizer) is InternLM2Tokenizer:
        tokenizer = as_fast_tokenizer(tokenizer)
    # Saved and read once more: only loading turns these names into attributes.
    tokenizer.save_pretrained(target)
    named = AutoTokenizer.from_pretrained(target, config=native.config, extra_special_tokens=_NATIVE_TOKENS)
    native_processor(model, named).save_pretrained(target)
    written = {file for pattern in (*_TEXT_FILES, '*process*.json') for file in target.glob(pattern)}
    return tuple(sorted(file.name for file in written))


def _write_projector(model: InternVLChatModel, source: Path, target: Path) -> tuple[str, ...]:
    del source
    save_file({name: tensor.contiguous() for name, tensor in model.mlp1.state_dict().items()}, target)
    return ()


def _write_language(model: InternVLChatModel, source: Path, target: Path) -> tuple[str, ...]:
    model.language_model.save_pretrained(target)
    return _copy_text(source, target)


_WRITERS: dict[ChatLayout, Callable[[InternVLChatModel, Path, Path], tuple[str, ...]]] = {
    'chat': _write_chat,
    'chat-native': _write_native,
    'projector': _write_projector,
    'language': _write_language,
}


def _copy_text(source: Path, target: Path) -> tuple[str, ...]:
    files = sorted({file for pattern in _TEXT_FILES for file in source.glob(pattern)})
    for file in files:
        shutil.copyfile(file, target / file.name)
    return tuple(file.name for file in files)


def _read_back(target: Path, layout: ChatLayout, context: int) -> tuple[Mapping[str, Tensor], Tensor | None]:
    """What was written, with names of the published model in memory, and the logits of whole models."""
    if layout == 'projector':
        return {f'mlp1.{name}': tensor for name, tensor in open_weights(target).items()}, None
    if layout == 'language':
        language = AutoModelForCausalLM.from_pretrained(target, dtype='auto')
        return {f'language_model.{name}': tensor for name, tensor in language.state_dict().items()}, None
    again = load_either(target)
    after = _logits(again, context)
    if layout == 'chat-native':
        # transformers' own class, because that is what others will run.
        native = InternVLForConditionalGeneration.from_pretrained(target, dtype='float32').eval()
        pixels, ids = _fixed_inputs(again, context)
        with torch.no_grad():
            after = native(pixel_values=pixels, input_ids=ids).logits
    return again.state_dict(), after


def _fixed_inputs(model: InternVLChatModel, context: int) -> tuple[Tensor, Tensor]:
    """One random tile and a text around it, the same in every conversion."""
    size, channels = model.config.image_size, model.config.vision_config.num_channels
    drawn = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, channels, size, size, generator=drawn)
    words = torch.randint(0, model.config.llm_config.vocab_size, (16,), generator=drawn)
    # A drawn word must not stand for a visual token.
    words = torch.where(words == context, (context + 1) % model.config.llm_config.vocab_size, words)
    places = torch.full((model.num_image_token,), context)
    # [1, 3, S, S] and [1, 16 + tokens of the tile]: words on both sides of the picture.
    return pixels, torch.cat([words[:4], places, words[4:]])[None]


def _context_id(source: Path) -> int:
    return token_id(load_tokenizer(str(source)), IMG_CONTEXT)


def _logits(model: InternVLChatModel, context: int) -> Tensor:
    """Logits in fp32, or fp64 where the weights are; the model keeps its dtype."""
    dtype, marked = model.dtype, model.img_context_token_id
    # In bf16 the rounding of two orders of summation would hide a difference that matters; fp64 would not come back.
    exact = torch.promote_types(dtype, torch.float32)
    pixels, ids = _fixed_inputs(model, context)
    model.img_context_token_id = context
    with torch.no_grad():
        logits = model.to(exact)(pixel_values=pixels.to(exact), input_ids=ids).logits
    model.to(dtype).img_context_token_id = marked
    return logits


def _written_names(name: str, layout: ChatLayout) -> list[str]:
    if layout == 'chat-native':
        return native_names(name)
    return [name.removeprefix(_PART[layout])]


def _family(name: str) -> str:
    # The numbers of mlp1 are no copies of one layer: norm and two linear ones stay apart.
    return re.sub(r'\.\d+\.', '.{i}.', name) if '.layer' in name else name


def print_chat_report(conversion: ChatConversion, target: Path) -> None:
    """Print the account of names and the comparison."""
    rows = Counter(
        (_family(name), ', '.join(map(_family, written))) for name, written in conversion.renamed.items()
    )
    print_table(
        'Chat model (InternLM2 under the names of Llama, as in memory)',
        ('name', 'written as', 'tensors'),
        [(*names, count) for names, count in rows.items()],
    )
    kept = 'yes' if not conversion.changed else f'NO: {", ".join(conversion.changed)}'
    merged = ', '.join(f'{part} of rank {rank}' for part, rank in conversion.merged.items()) or 'none'
    lines: dict[str, Any] = {
        'written': target,
        'tensors': len(conversion.renamed),
        'adapters merged': merged,
        'text files': ', '.join(conversion.written) or 'none',
        'read back the same': kept,
        'logits in fp32': f'differ by at most {conversion.difference:.2g}; the largest is {conversion.scale:.3g}',
    }
    for what, value in lines.items():
        console.print(f'{what:<19}{value}', highlight=False)
