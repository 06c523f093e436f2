"""From a question and its history to the prompt text, and from generated ids to the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from internvl_mm.preprocess.chat_text import IMAGE, IMG_CONTEXT, IMG_END, IMG_START, ChatTextEncoder
from internvl_mm.preprocess.conversation import ChatTemplate, Turn
from internvl_mm.utils.errors import DataError

# Start and end of an image, and what stands for one visual token.
ImageTokens = tuple[str, str, str]
IMAGE_TOKENS: ImageTokens = (IMG_START, IMG_END, IMG_CONTEXT)


def expand_images(
    prompt: str, tiles: Sequence[int], tokens_per_tile: int, image_tokens: ImageTokens = IMAGE_TOKENS
) -> str:
    """Replace every ``<image>`` by the placeholders of its tiles, first to last.

    Args:
        prompt: Rendered conversation.
        tiles: Number of tiles of each image.
        tokens_per_tile: Visual tokens of a tile.
        image_tokens: Start, end and placeholder token.

    Raises:
        DataError: More or fewer ``<image>`` than images.
    """
    found = prompt.count(IMAGE)
    if found != len(tiles):
        raise DataError(
            f'the conversation has {found} {IMAGE} but {len(tiles)} images were given (tiles of each: {list(tiles)}): '
            f'write one {IMAGE} per image, over all turns, and give num_patches_list with one entry per image'
        )
    start, end, context = image_tokens
    parts = prompt.split(IMAGE)
    # One start and one end per image, not per tile: <img> + T·tiles placeholders + </img>.
    images = [start + context * (tokens_per_tile * count) + end for count in tiles]
    return parts[0] + ''.join(image + part for image, part in zip(images, parts[1:], strict=True))


def tiles_of(pixel_values: Any, num_patches_list: Sequence[int] | None) -> list[int]:
    """Tiles of each image; without a list, all tiles belong to one image.

    Raises:
        DataError: The list is about another number of tiles, or an image has none.
    """
    given = 0 if pixel_values is None else len(pixel_values)
    if num_patches_list is None:
        # As published: several pictures without a list are taken for one.
        return [given] if given else []
    if sum(num_patches_list) != given:
        raise DataError(
            f'num_patches_list={list(num_patches_list)} adds up to {sum(num_patches_list)} tiles, pixel_values has '
            f'{given}: give the number of tiles of every image, in order'
        )
    check_tiles(num_patches_list)
    return list(num_patches_list)


def check_tiles(num_patches_list: Sequence[int]) -> None:
    """Refuse images without tiles: their text would be a start and an end with nothing between.

    Raises:
        DataError: There is one.
    """
    if any(count < 1 for count in num_patches_list):
        raise DataError(
            f'num_patches_list={list(num_patches_list)}: every image has at least one tile; leave images without '
            'tiles out, with their <image>'
        )


def with_image(question: str, tiles: Sequence[int]) -> str:
    """Put ``<image>`` in front of a question about one image that does not say where it goes, as published."""
    return f'{IMAGE}\n{question}' if len(tiles) == 1 and IMAGE not in question else question


def build_prompt(
    template: ChatTemplate,
    turns: Sequence[Turn],
    tiles: Sequence[int],
    tokens_per_tile: int,
    *,
    system_message: str | None = None,
    image_tokens: ImageTokens = IMAGE_TOKENS,
) -> str:
    """The whole prompt: rendered conversation with placeholders for every image."""
    return expand_images(template.render(turns, system_message), tiles, tokens_per_tile, image_tokens)


def prompt_encoder(tokenizer: Any, template: ChatTemplate, system_message: str) -> ChatTextEncoder:
    """What turns conversations into ids, as in training, except that messages keep their white space as published."""
    return ChatTextEncoder(tokenizer, replace(template, strip_messages=False), system_message=system_message)


def token_id(tokenizer: Any, token: str) -> int:
    """Id of a token that has to be in the vocabulary.

    Raises:
        DataError: It is not.
    """
    index = tokenizer.convert_tokens_to_ids(token)
    # An unknown token has the id of unk_token, or None in a vocabulary without one (Qwen2).
    if index is None or (index == tokenizer.unk_token_id and token != tokenizer.unk_token):
        raise DataError(
            f'{token!r} is not a token of this tokenizer ({type(tokenizer).__name__} of {len(tokenizer)}): load the '
            "tokenizer of the model's own folder, or add image tokens with add_image_tokens(tokenizer)"
        )
    return index


def answer_of(text: str, template: ChatTemplate) -> str:
    """The answer in decoded text: up to the separator, without white space around it."""
    stop = template.stop
    return (text.split(stop)[0] if stop else text).strip()
