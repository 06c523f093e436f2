"""Chat tasks at their smallest, and conversations of random tiles and tokens for them."""

from __future__ import annotations

from typing import Any

import torch

from internvl_mm.data.collate_chat import collate_chat, collate_packed
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.chat_model import ChatModel
from internvl_mm.models.connectors import PixelShuffleMlp
from internvl_mm.models.language.part import LanguageModel
from internvl_mm.models.tasks.chat_tuning import ChatTuning
from internvl_mm.structures import IGNORE, ChatBatch, ChatSample

from .tiny_chat import FAMILY_CASES, LANGUAGE, NORMS_300M, VISION, tokenizer_of

SIDE = 28  # pixels of a tile: 2×2 patches, one token


def chat_settings(architecture: str = 'Qwen2ForCausalLM', **changes: Any) -> dict[str, Any]:
    """Config of a tiny :class:`ChatModel`; settings of its parts go under ``vision`` and ``llm``."""
    sizes = {**VISION, 'image_size': SIDE, **changes.pop('vision', {})}
    vision = dict(type=InternViT, **sizes, **NORMS_300M, initializer_factor=1.0)
    llm = {**LANGUAGE, 'architectures': [architecture], **changes.pop('llm', {})}
    language = dict(type=LanguageModel, llm_config=llm)
    parts = dict(vision=vision, connector=dict(type=PixelShuffleMlp), language_model=language)
    return dict(type=ChatModel, **parts, template=FAMILY_CASES[architecture][0], **changes)


def tiny_task(architecture: str = 'Qwen2ForCausalLM', *, seed: int = 0, **settings: Any) -> ChatTuning:
    """A task with random weights, large enough that attention and images matter."""
    torch.manual_seed(seed)
    options = dict(chat=chat_settings(architecture), tokenizer=tokenizer_of(architecture), max_new_tokens=6)
    task = ChatTuning(**{**options, **settings})
    task.init_weights()
    with torch.no_grad():
        for parameter in task.parameters():
            if parameter.is_floating_point():  # not what is packed in 4 bits
                parameter.add_(torch.randn(parameter.shape) * 0.05)
    return task


def conversation(task: ChatTuning, number: int, *, tiles: int = 1, length: int = 9) -> ChatSample:
    """Random tokens behind the image blocks; about the second half is learned."""
    draws = torch.Generator().manual_seed(number)
    context = torch.full((tiles * task.chat.num_image_token,), task.chat.img_context_token_id)
    text = torch.randint(3, 200, (length,), generator=draws)
    text[text == task.chat.img_context_token_id] = 3  # no image where there is none
    ids = torch.cat([context, text])
    labels = ids.clone()
    labels[: len(context) + length // 2] = IGNORE
    pixels = torch.randint(256, (tiles, 3, SIDE, SIDE), generator=draws, dtype=torch.uint8)
    return ChatSample(pixels, (tiles,), ids, labels, dataset='tiny', index=number, path=f'tiny:{number}')


def batch_of(*samples: ChatSample, packed: bool = False, length: int | None = None) -> ChatBatch:
    """A batch with tiles as floats, as after the data preprocessor."""
    if packed:
        items: list[Any] = [dict(inputs=list(samples))]
        batch = collate_packed(items, length=length)['inputs']
    else:
        batch = collate_chat([dict(inputs=sample) for sample in samples])['inputs']
    return type(batch)(**{**vars(batch), 'tiles': batch.tiles.float() / 255 - 0.5})
