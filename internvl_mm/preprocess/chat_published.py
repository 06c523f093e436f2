"""Token ids and labels exactly as the published training code makes them, for parity with its runs.

It renders a prompt, tokenises it as one string, and finds the answers again by tokenising parts of the string and
counting. Where the counts do not add up it masks the whole sample, so these functions return samples without labels;
:class:`ChatTextEncoder` reports them. Names in the table are those of the published preprocessors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from internvl_mm.preprocess.conversation import ChatTemplate, Turn
from internvl_mm.structures.chat import IGNORE, EncodedChat

IMAGE_BLOCK = '<img>{}</img>'
# Yields (tokens, learned) runs from the start of the sample; what is left over is masked.
Runs = list[tuple[int, bool]]


def encode_published(
    tokenizer: Any,
    template: ChatTemplate,
    turns: Sequence[Turn],
    image_tokens: Sequence[int],
    max_length: int,
) -> EncodedChat:
    """Encode one sample; without labels where the published counting fails.

    Args:
        tokenizer: A transformers tokenizer.
        template: Its name decides which of the published functions is followed.
        turns: Questions and answers.
        image_tokens: Context tokens of each image; the first so many ``<image>`` become blocks.
        max_length: Longer samples are cut at the right, whatever stands there.
    """
    if template.name == 'internvl2_5':
        return _per_message(tokenizer, template, turns, image_tokens, max_length)
    if template.strip_messages:
        turns = [
            (question.strip(), answer if answer is None else answer.strip()) for question, answer in turns
        ]
    prompt = _with_images(template.render(turns), image_tokens)
    # Ids are cut and runs are not, as published: labels beyond the cut fall away by themselves.
    ids = np.array(tokenizer(prompt, truncation=True, max_length=max_length).input_ids, np.int64)
    runs = _RUNS.get(template.name, _generic)(tokenizer, template, prompt)
    labels = np.full_like(ids, IGNORE)
    position = 0
    for length, learned in runs:
        if learned:
            labels[position : position + length] = ids[position : position + length]
        position += length
    # Both ends count tokens other than padding, so a pad token inside the text masks the sample.
    total = int((ids != tokenizer.pad_token_id).sum())
    # Samples of max_length are exempt, as published: they may have been cut.
    if position < max_length and position != total:
        labels[:] = IGNORE
    if template.name == 'phi3-chat':
        # Phi-3's padding token, which the published code masks wherever it stands.
        labels[ids == tokenizer.convert_tokens_to_ids('<|endoftext|>')] = IGNORE
    return EncodedChat(ids, labels)


def _with_images(text: str, image_tokens: Sequence[int]) -> str:
    for count in image_tokens:
        text = text.replace('<image>', IMAGE_BLOCK.format('<IMG_CONTEXT>' * count), 1)
    return text


def _count(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text).input_ids)


def _exchanges(prompt: str, template: ChatTemplate) -> list[str]:
    """The prompt cut at separators: system with the first exchange, then exchange by exchange, ends left out."""
    parts = prompt.split(template.sep)
    # System, question and answer come first, then question and answer.
    return [template.sep.join(parts[:3])] + [
        template.sep.join(parts[start : start + 2]) for start in range(3, len(parts), 2)
    ]


def _split_runs(
    tokenizer: Any, template: ChatTemplate, exchanges: list[str], offsets: Callable[[int], tuple[int, int]]
) -> Runs:
    """Runs of exchanges that hold one answer each; ``offsets`` corrects both counts of an exchange by its number."""
    marker = template.sep + template.roles[1]
    runs: Runs = []
    for number, exchange in enumerate(exchanges):
        parts = exchange.split(marker)
        if exchange == '' or len(parts) != 2:
            break
        whole, instruction = offsets(number)
        length = _count(tokenizer, exchange) + whole
        masked = _count(tokenizer, parts[0] + marker) + instruction
        runs += [(masked, False), (length - masked, True)]
    return runs


def _mpt(tokenizer: Any, template: ChatTemplate, prompt: str) -> Runs:
    # The closing separator that the split took away is one token, and is learned.
    return _split_runs(tokenizer, template, _exchanges(prompt, template), lambda number: (1, 0))


def _phi3(tokenizer: Any, template: ChatTemplate, prompt: str) -> Runs:
    # Every count includes the start token, which the sample has once; the separator taken away makes up for one.
    def offsets(number: int) -> tuple[int, int]:
        return (0, -1) if number == 0 else (-1, -2)

    return [(1, False), *_split_runs(tokenizer, template, _exchanges(prompt, template), offsets)]


def _internlm(tokenizer: Any, template: ChatTemplate, prompt: str) -> Runs:
    user, assistant = template.roles
    parts = prompt.split(assistant)
    # Each count includes one start token.
    runs: Runs = [(1, False), (_count(tokenizer, parts[0] + assistant) - 1, False)]
    for part in parts[1:-1]:
        pieces = part.split(user)
        if len(pieces) != 2:  # a role written in the data: published code fails here and takes another sample
            return runs
        runs.append((_count(tokenizer, pieces[0]) - 1, True))
        runs.append((_count(tokenizer, user + pieces[1] + assistant) - 1, False))
    runs.append((_count(tokenizer, parts[-1]) - 1, True))
    return runs


def _generic(tokenizer: Any, template: ChatTemplate, prompt: str) -> Runs:
    """Vicuna's masking, which ``internvl_zh`` falls back to.

    It expects the space as separator and ``</s>`` as the end of an answer. The published template has had them the
    other way round since July 2024, which masks every sample; this follows the order the model was trained with.
    """
    user_end, answer_end = template.user[1], template.assistant[1]
    marker = user_end + template.roles[1]
    modern = not getattr(tokenizer, 'legacy', True)  # the published correction counts one token less for them
    runs: Runs = [(1, False)]
    for number, turn in enumerate(prompt.split(answer_end)):
        parts = turn.split(marker)
        if turn == '' or len(parts) != 2:
            break
        later = int(number > 0 and modern)
        length = _count(tokenizer, turn) - later
        # −2: the start token, and the trailing space that merges into the answer.
        masked = _count(tokenizer, parts[0] + marker) - 2 - later
        runs += [(masked, False), (length - masked, True)]
    return runs


_RUNS: dict[str, Callable[[Any, ChatTemplate, str], Runs]] = {
    'Hermes-2': _mpt,
    'internlm2-chat': _internlm,
    'phi3-chat': _phi3,
}


def _per_message(
    tokenizer: Any,
    template: ChatTemplate,
    turns: Sequence[Turn],
    image_tokens: Sequence[int],
    max_length: int,
) -> EncodedChat:
    """The preprocessor of InternVL2.5: message by message, cut at the end."""
    adds_start = bool(getattr(tokenizer, 'add_bos_token', False))
    header = _count(tokenizer, template.roles[1]) - adds_start  # tokens
    remaining = list(image_tokens)
    texts = [(template.system[0] + template.system_message + template.system[1], False)]
    for question, answer in turns:
        count = min(question.count('<image>'), len(remaining))
        texts.append((template.user[0] + _with_images(question, remaining[:count]) + template.user[1], False))
        texts.append((template.assistant[0] + (answer or '') + template.assistant[1], True))
        remaining = remaining[count:]
    # The begin token is written into the first message, and taken off what the tokenizer puts before each.
    if adds_start:
        texts[0] = (tokenizer.bos_token + texts[0][0], False)
    ids, labels = [], []
    for text, learned in texts:
        tokens = np.array(tokenizer(text).input_ids[adds_start:], np.int64)
        targets = tokens.copy() if learned else np.full_like(tokens, IGNORE)
        # The role before an answer, which generation is given and never has to say.
        targets[:header] = IGNORE
        targets[-1:] = IGNORE  # the line break after the end of the answer
        ids.append(tokens)
        labels.append(targets)
    return EncodedChat(np.concatenate(ids)[:max_length], np.concatenate(labels)[:max_length])
