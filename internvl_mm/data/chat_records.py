"""Lines of the published chat formats to checked records."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from internvl_mm.structures.chat import ChatRecord
from internvl_mm.utils.errors import DataError

IMAGE, VIDEO = '<image>', '<video>'
# Names of the published format, and those of chat APIs.
ROLES = {'human': 'user', 'user': 'user', 'gpt': 'assistant', 'assistant': 'assistant', 'system': 'system'}


class ImageCountError(DataError):
    """Placeholders and pictures (or videos) of a sample do not match."""


Turns = tuple[tuple[str, str], ...]


def parse_record(line: Mapping[str, Any], root: str = '') -> ChatRecord:
    """Check one sample of the published JSONL form.

    Fields: ``conversations`` (list of ``{from, value}``); ``image`` (path, or list of paths) with ``width`` and
    ``height`` or ``width_list`` and ``height_list``; ``video`` with ``clip: [start, end]`` in seconds; ``length``.
    Where the one image or the video of a sample has no placeholder, it goes before the first question, as published.

    Args:
        line: The sample.
        root: Prefix of paths; joined as a path, or in front for ``s3://``.

    Raises:
        DataError: Nothing to learn from, or placeholders and images do not match.
    """
    system, turns = parse_messages(line.get('conversations'))
    images, video = _paths(line.get('image'), root), _paths(line.get('video'), root)
    if images and video:
        raise DataError('a sample has image and video; give the frames of the video as images')
    if len(video) > 1:
        raise DataError(f'a sample has {len(video)} videos; one is possible')
    # Answers may quote a placeholder: only questions hold pictures.
    placeholder, count = (VIDEO, 1) if video else (IMAGE, len(images))
    found = sum(question.count(placeholder) for question, _ in turns)
    # Published for one image; for several the place cannot be guessed.
    if count == 1 and found == 0:
        turns = ((f'{placeholder}\n{turns[0][0]}', turns[0][1]), *turns[1:])
    elif found != count:
        raise ImageCountError(
            f'the questions have {found} {placeholder} for {count} {"video" if video else "images"}; write one where '
            'each belongs, as in Image-1: <image>'
        )
    if video and any(IMAGE in question for question, _ in turns):
        raise DataError('a sample with a video has <image> in its questions but no image')
    return ChatRecord(
        turns=turns,
        images=images,
        sizes=_sizes(line, len(images)),
        video=str(video[0]) if video else None,
        clip=_clip(line.get('clip')),
        system=system,
        # A hint for planning only, as the sizes are: what is no number is measured instead.
        length=line.get('length') if isinstance(line.get('length'), int) else None,
    )


def parse_messages(messages: Any) -> tuple[str | None, Turns]:
    """Return the system message, if there is one, and (question, answer) pairs.

    Like the published code, this drops an answer that comes before any question.

    Args:
        messages: List of ``{from, value}`` (or ``{role, content}``), alternating.

    Raises:
        DataError: It is empty, has an unknown role, does not alternate, or has no answer at its end.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise DataError('the conversation is empty: conversations has to be a list of {from, value} messages')
    read = [_message(message, number) for number, message in enumerate(messages, 1)]
    system = read.pop(0)[1] if read[0][0] == 'system' else None
    # Published: an answer to nothing is left out.
    if read and read[0][0] == 'assistant':
        read.pop(0)
    for number, (role, _) in enumerate(read):
        if role != ('user', 'assistant')[number % 2]:
            raise DataError(
                f'roles have to alternate human, gpt, …; message {number + 1} after the beginning is of {role!r}'
            )
    if len(read) < 2 or len(read) % 2:
        raise DataError(
            f'the conversation is empty or its last question has no answer ({len(read)} messages)'
        )
    texts = [text for _, text in read]
    return system, tuple(zip(texts[::2], texts[1::2]))


def role_and_text(message: Mapping[str, Any]) -> tuple[Any, Any]:
    """What a message says under the published names or those of chat APIs, unchecked; ``None`` where nothing."""
    # Not just the first name there is: in a table both are, where rows differ, and what is not meant is None.
    role, text = (
        next((message[name] for name in names if message.get(name) is not None), None)
        for names in (('from', 'role'), ('value', 'content'))
    )
    return role, text


def _message(message: Any, number: int) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        raise DataError(
            f'message {number} is {type(message).__name__} instead of an object with from and value'
        )
    role, text = role_and_text(message)
    # What is no text, as the list of a role, cannot be looked up.
    if not isinstance(role, str) or role not in ROLES:
        raise DataError(f'message {number} has the unknown role {role!r}; roles are {", ".join(ROLES)}')
    if not isinstance(text, str):
        raise DataError(f'message {number} holds {type(text).__name__} instead of text')
    check_text(text, f'message {number}')
    return ROLES[role], text


def check_text(text: str, name: str) -> None:
    """Refuse text that no file, tokenizer or report takes: JSON can spell half of a character.

    Args:
        text: What was read.
        name: What it is, for the message.

    Raises:
        DataError: It cannot be encoded as UTF-8.
    """
    # As "\ud83d", which json.loads takes, and which is half of an emoji.
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f'{name} holds {text[error.start]!r}, half of a character (a surrogate without its partner), which is no '
            'valid text; write the whole character or remove it'
        ) from error


def _paths(value: Any, root: str) -> tuple[str | bytes, ...]:
    files = [value] if isinstance(value, (str, bytes)) else value or []
    if not isinstance(files, list) or not all(isinstance(file, (str, bytes)) for file in files):
        raise DataError(f'image or video is {value!r:.80} instead of a path or a list of paths')
    for file in files:
        if isinstance(file, str):
            check_text(file, 'a path of image or video')
    # Tables give '' for a cell without a picture (see chat_sources); counting placeholders then tells.
    return tuple(file if isinstance(file, bytes) else join_root(root, file) for file in files if file)


def join_root(root: str, path: str) -> str:
    """Put the root of a data set before a path; an object store's addresses are not paths and are joined as text."""
    return root + path if 's3://' in root else os.path.join(root, path)


def _sizes(line: Mapping[str, Any], count: int) -> tuple[tuple[int, int], ...] | None:
    """Sizes only help to plan; where they are missing or odd, the pictures' headers tell."""
    widths, heights = (
        line.get('width_list', [line.get('width')]),  # a list where there are several pictures
        line.get('height_list', [line.get('height')]),
    )
    if not isinstance(widths, list) or not isinstance(heights, list):
        return None
    sizes = tuple(zip(widths, heights))
    whole = all(isinstance(side, int) and side > 0 for size in sizes for side in size)
    return sizes if whole and len(sizes) == count else None


def _clip(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    numbers = isinstance(value, (list, tuple)) and all(isinstance(time, (int, float)) for time in value)
    if not numbers or len(value) != 2 or not 0 <= value[0] < value[1]:
        raise DataError(f'clip={value!r} has to be [start, end] in seconds, 0 ≤ start < end')
    return float(value[0]), float(value[1])
