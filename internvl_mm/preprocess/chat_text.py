"""Conversations to token ids and labels, so that no text of the data can change the structure of a prompt.

The frame of a template and the image blocks become ids one by one; questions and answers are tokenised with special
tokens disabled, so ``<|im_end|>`` or ``<IMG_CONTEXT>`` written by a user stays text. Only the markup of grounding
(``<ref>``, ``<box>``, ``<quad>``) is what it says. For text without special tokens the ids are those of the published
code, which tokenises the whole prompt at once (``published=True`` does just that, slips included).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from internvl_mm.preprocess.chat_published import encode_published
from internvl_mm.preprocess.conversation import CHAT_TEMPLATES, ChatTemplate, Piece, Turn, chat_template
from internvl_mm.structures.chat import IGNORE, EncodedChat
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import ConfigError, DataError, did_you_mean

IMG_START, IMG_END, IMG_CONTEXT, IMAGE = '<img>', '</img>', '<IMG_CONTEXT>', '<image>'
MARKUP = ('<quad>', '</quad>', '<ref>', '</ref>', '<box>', '</box>')
# What releases add to the tokenizer of a language model, in this order.
ADDED_TOKENS = (IMG_START, IMG_END, IMG_CONTEXT, *MARKUP)  # ids 92544 to 92552 of InternLM2
OVERLONG = ('refuse', 'drop', 'truncate')
# Tokens as templates spell them; a tokenizer that splits one up was trained with another template.
_FRAME_TOKEN = re.compile(r'<\|[^|<>]+\|>|</?s>')


@dataclass(frozen=True)
class _Atom:
    """Text to tokenise, or a token (or image block) whose ids are known. ``labelled``: the model learns to say it."""

    text: str
    ids: tuple[int, ...] = ()
    labelled: bool = False
    foreign: bool = False  # text of the conversation rather than of the template


class ChatTextEncoder:
    """Turns of one conversation to ``input_ids`` and ``labels``.

    Args:
        tokenizer: A transformers tokenizer that knows the image tokens, see :func:`add_image_tokens`.
        template: Name of a template, or one.
        system_message: Replaces the template's own (``config.system_message`` of a release).
        max_length: Most tokens of a sample.
        overlong: What a longer one does: ``'refuse'`` stops the run; ``'drop'`` reports it as a bad sample, whatever
            the data set's ``on_error`` says; ``'truncate'`` cuts text at the end, as the published code does, but
            never an image block, nor the last label.
        published: Tokenise and mask as the published training code does: for parity. Special tokens in the data
            then act.

    Attributes:
        forbidden: Matches what text of a conversation must not become: every special token but the markup.

    Raises:
        ConfigError: Template and tokenizer do not belong together, or a setting is out of range.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str | ChatTemplate,
        *,
        system_message: str | None = None,
        max_length: int = 8192,
        overlong: Literal['refuse', 'drop', 'truncate'] = 'refuse',
        published: bool = False,
    ):
        check_counts(max_length=max_length)
        if overlong not in OVERLONG:
            hint = did_you_mean(overlong, OVERLONG)
            raise ConfigError(f'overlong={overlong!r} is no policy: use {", ".join(OVERLONG)}.{hint}')
        chosen = chat_template(template) if isinstance(template, str) else template
        self.template = chosen if system_message is None else replace(chosen, system_message=system_message)
        self.tokenizer, self.max_length = tokenizer, max_length
        self.overlong, self.published = overlong, published
        self._check_tokenizer()
        self._ids = _special_ids(tokenizer, self.template)
        # Longest first: of alternatives the first that matches wins.
        forbidden = sorted(set(self._ids) - set(MARKUP), key=len, reverse=True)
        self.forbidden = re.compile('|'.join(map(re.escape, forbidden)))
        self._frame_split = _splitter(self._ids)
        # Grounding is all that text of a conversation may turn into tokens.
        self._content_split = _splitter([token for token in MARKUP if token in self._ids])

    def _check_tokenizer(self) -> None:
        check_tokenizer(self.tokenizer, self.template)

    @property
    def settings(self) -> list[Any]:
        """What decides how long samples become, for hashes."""
        return [
            self.max_length,
            self.overlong,
            self.published,
            type(self.tokenizer).__name__,
            len(self.tokenizer),
        ]

    def encode(
        self, turns: Sequence[Turn], image_tokens: Sequence[int] = (), *, system: str | None = None
    ) -> EncodedChat:
        """Encode one sample for training.

        Args:
            turns: Questions and answers, with one ``<image>`` in the questions per image.
            image_tokens: Context tokens of each image: tiles × tokens per tile.
            system: System message of this conversation alone.

        Raises:
            DataError: Another number of ``<image>`` than images, a turn without labels, or a sample that is too long
                for the policy.
        """
        template = self._with(system)
        if self.published:
            encoded = encode_published(self.tokenizer, template, turns, image_tokens, self.max_length)
            return self._checked(encoded, turns, sum(1 for _ in image_tokens))
        # White space has tokens, but says nothing.
        silent = [number for number, (_, answer) in enumerate(turns, 1) if not (answer or '').strip()]
        if silent:
            raise DataError(f'answer {silent[0]} of {len(turns)} has no text to learn; remove the turn')
        return self._fit(self._assemble(template, turns, image_tokens))

    def prompt(
        self, turns: Sequence[Turn], image_tokens: Sequence[int] = (), *, system: str | None = None
    ) -> np.ndarray:
        """Encode a conversation whose last answer is open: the ids ``int64 [L]`` to generate from.

        Raises:
            DataError: Another number of ``<image>`` than images.
        """
        return self._assemble(self._with(system), turns, image_tokens).input_ids

    def length(
        self, turns: Sequence[Turn], image_tokens: Sequence[int] = (), *, system: str | None = None
    ) -> int:
        """Tokens a sample will have, cut as the policy says.

        Raises:
            DataError: Another number of ``<image>`` than images.
        """
        return self.check_length(self.full_length(turns, image_tokens, system=system))

    def full_length(
        self, turns: Sequence[Turn], image_tokens: Sequence[int] = (), *, system: str | None = None
    ) -> int:
        """Tokens of the whole sample, however long.

        Raises:
            DataError: Another number of ``<image>`` than images.
        """
        # Blocks without their context tokens, which need no tokenising to be counted.
        encoded = self._assemble(self._with(system), turns, [0] * len(image_tokens))
        return len(encoded.input_ids) + sum(image_tokens)

    def check_length(self, length: int) -> int:
        """Return the length a sample keeps.

        Raises:
            OverlongError: It is too long and the policy is not to cut it.
        """
        if length <= self.max_length:
            return length
        if self.overlong == 'truncate' or self.published:
            return self.max_length
        raise OverlongError(
            f'{length} tokens, more than max_length={self.max_length}; shorten it, raise max_length, or choose '
            "overlong='drop' or 'truncate'",
            drop=self.overlong == 'drop',
        )

    def _with(self, system: str | None) -> ChatTemplate:
        return self.template if system is None else replace(self.template, system_message=system)

    def _assemble(
        self, template: ChatTemplate, turns: Sequence[Turn], image_tokens: Sequence[int]
    ) -> EncodedChat:
        """The whole sample, however long."""
        if template.strip_messages:
            turns = [
                (question.strip(), answer if answer is None else answer.strip()) for question, answer in turns
            ]
        count = sum(question.count(IMAGE) for question, _ in turns)
        if count != len(image_tokens):
            raise DataError(
                f'the questions have {count} {IMAGE} for {len(image_tokens)} images; write one {IMAGE} where each '
                'image belongs'
            )
        atoms = list(self._atoms(template.pieces(turns), list(image_tokens)))
        ids = self._start(atoms[0])
        learn = [False] * len(ids)  # one flag per id
        gap: list[_Atom] = []
        before = ''
        for atom in atoms:
            if not atom.ids:
                gap.append(atom)
                continue
            self._close(gap, before, ids, learn)
            gap, before = [], atom.text
            ids += atom.ids
            learn += [atom.labelled] * len(atom.ids)
        self._close(gap, before, ids, learn)
        input_ids = np.array(ids, np.int64)
        return EncodedChat(input_ids, np.where(learn, input_ids, IGNORE))  # int64 [L] each

    def _start(self, first: _Atom) -> list[int]:
        """What the tokenizer puts in front by itself: ``<s>`` for Llama, for Phi-3 a space too, for Qwen2 nothing."""
        if not first.ids:
            return list(self.tokenizer('').input_ids)
        # Whatever the tokenizer puts before the first token of the template.
        tokens = self.tokenizer(first.text).input_ids
        return tokens[: tokens.index(first.ids[-1])]

    def _atoms(self, pieces: Sequence[Piece], image_tokens: list[int]) -> Iterator[_Atom]:
        for piece in pieces:
            framing = piece.kind in ('frame', 'lead', 'stop')
            learned = piece.kind in ('lead', 'answer', 'stop')
            parts = (self._frame_split if framing else self._content_split).split(piece.text)
            for number, part in enumerate(parts):
                if number % 2:  # odd parts are the tokens between the texts
                    yield _Atom(part, ids=(self._ids[part],), labelled=learned)
                    # What follows the stop token (the line break of internvl2_5) is not learned.
                    learned = learned and piece.kind == 'answer'
                elif piece.kind == 'user':
                    yield from self._question(part, image_tokens)
                elif part:
                    # A stop of pure text, as the line break of 'plain', is learned.
                    yield _Atom(part, labelled=learned, foreign=not framing)

    def _question(self, text: str, image_tokens: list[int]) -> Iterator[_Atom]:
        """Text of a question with its images in place."""
        for number, part in enumerate(text.split(IMAGE)):
            if number:
                yield self._image(image_tokens.pop(0))
            if part:
                yield _Atom(part, foreign=True)

    def _image(self, count: int) -> _Atom:
        """The block of an image with ``count`` context tokens."""
        # 256 a tile: at most 3,328 (12 tiles and a thumbnail), 3,330 with the two tokens around them.
        context = (self._ids[IMG_CONTEXT],) * count
        # Called by the token it ends with, which is what the following text comes after.
        return _Atom(IMG_END, ids=(self._ids[IMG_START], *context, self._ids[IMG_END]))

    def _image_ends(self, ids: np.ndarray) -> np.ndarray:
        """Places of the last token of every image."""
        return np.flatnonzero(ids == self._ids[IMG_END])

    def _close(self, gap: list[_Atom], before: str, ids: list[int], learn: list[bool]) -> None:
        """Tokenise the text since the last token ``before`` as one, because merges cross from frame to content."""
        if not gap:
            return
        hostile = any(atom.foreign and self.forbidden.search(atom.text) for atom in gap)
        tokens = self._tokenise(''.join(atom.text for atom in gap), before, hostile)
        start, text = 0, ''
        flags = [gap[0].labelled] * len(tokens)
        for previous, atom in zip(gap, gap[1:]):
            text += previous.text
            if atom.labelled != previous.labelled:
                # A token that spans the border counts to what follows: the model has to say it.
                head = self._tokenise(text, before, hostile)
                start = _common(head, tokens)
                flags[start:] = [atom.labelled] * (len(tokens) - start)
        ids += tokens
        learn += flags

    def _tokenise(self, text: str, before: str, hostile: bool) -> list[int]:
        """Ids of text that follows the token ``before`` (``''``: that begins the prompt)."""
        if not hostile:
            # With the token in front: some tokenizers put a space before a text, or drop the break after a token.
            tokens = self.tokenizer(before + text, add_special_tokens=False).input_ids
            return tokens[tokens.index(self._ids[before]) + 1 :] if before else tokens
        tokens = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        if not set(tokens) & {self._ids[token] for token in self.forbidden.findall(text)}:
            return tokens
        # A tokenizer without that option: break each literal after its first letter, where no token can match.
        broken = self.forbidden.sub(lambda match: f'{match[0][0]}\0{match[0][1:]}', text).split('\0')
        return [i for part in broken for i in self.tokenizer(part, add_special_tokens=False).input_ids]

    def _fit(self, encoded: EncodedChat) -> EncodedChat:
        """Apply the policy for long samples."""
        length = len(encoded.input_ids)
        if length <= self.max_length:
            return encoded
        # Raises unless the policy is to cut.
        self.check_length(length)
        cut = EncodedChat(encoded.input_ids[: self.max_length], encoded.labels[: self.max_length])
        # In the uncut sample: a block that reaches beyond the cut would leave fewer tokens than features.
        last_image = self._image_ends(encoded.input_ids)
        if len(last_image) and last_image[-1] >= self.max_length:
            raise DataError(
                f'{length} tokens with an image block that ends at {last_image[-1] + 1}, beyond '
                f'max_length={self.max_length}: only text can be cut; give its images fewer tiles'
            )
        if not cut.num_labels:
            raise DataError(
                f'{length} tokens: cut to max_length={self.max_length} no answer is left to learn'
            )
        return cut

    def _checked(self, encoded: EncodedChat, turns: Sequence[Turn], num_images: int) -> EncodedChat:
        """Report what the published code passes over: samples it masks as a whole, and images it cuts away."""
        blocks = int((encoded.input_ids == self._ids[IMG_END]).sum())
        if blocks < num_images:
            raise DataError(
                f'{num_images} images, but {blocks} image blocks within max_length={self.max_length}'
            )
        if not encoded.num_labels:
            raise DataError(
                'the published masking leaves no label (tokenization mismatch): it ignores this sample in silence'
            )
        return encoded


class OverlongError(DataError):
    """A sample longer than ``max_length``.

    Args:
        message: What is too long.
        drop: The policy is to leave it out.
    """

    def __init__(self, message: str, *, drop: bool = False):
        super().__init__(message)
        self.drop = drop


def add_image_tokens(tokenizer: Any) -> int:
    """Add the image and grounding tokens a tokenizer lacks, in the order of the releases; return how many."""
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in ADDED_TOKENS if token not in vocabulary]
    # Special as in the releases: never split, and left out by decoders that are asked to.
    return tokenizer.add_tokens(missing, special_tokens=True)


def check_tokenizer(tokenizer: Any, template: ChatTemplate) -> None:
    """Refuse a tokenizer that does not know the tokens of a template or of images.

    Raises:
        ConfigError: Names the tokens, and the templates that would fit.
    """
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in (IMG_START, IMG_END, IMG_CONTEXT) if token not in vocabulary]
    if missing:
        raise ConfigError(
            f'the tokenizer has no token {missing[0]}: it is that of a language model without images. Add the tokens '
            'with add_image_tokens(tokenizer) and resize the embeddings (in configs: add_tokens=True of '
            "the data's encoder and of the model)"
        )
    check_frame(vocabulary, template)


def check_frame(vocabulary: Mapping[str, int], template: ChatTemplate) -> None:
    """Refuse a vocabulary without the special tokens a template writes.

    Raises:
        ConfigError: Names the first, and the templates that would fit.
    """
    if unknown := [token for token in frame_tokens(template) if token not in vocabulary]:
        fitting = [
            name
            for name, other in CHAT_TEMPLATES.items()
            if frame_tokens(other) and all(token in vocabulary for token in frame_tokens(other))
        ]
        raise ConfigError(
            f"template='{template.name}' writes {unknown[0]}, which is no token of this tokenizer: they do not belong "
            f'together. Its tokens fit {", ".join(fitting) or "no known template"}'
        )


def frame_tokens(template: ChatTemplate) -> list[str]:
    """The special tokens a template writes."""
    parts = (template.system, template.user, template.assistant)
    text = ' '.join(part for pair in parts for part in pair)
    return list(dict.fromkeys(_FRAME_TOKEN.findall(text)))


def _special_ids(tokenizer: Any, template: ChatTemplate) -> dict[str, int]:
    """Every special token with its id: those that would change the structure if text could write them."""
    ids = {token.content: i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids.update({token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.all_special_tokens})
    vocabulary = tokenizer.get_vocab()
    # These structure a prompt even where a tokenizer holds them as ordinary tokens.
    structure = (*ADDED_TOKENS, *frame_tokens(template))
    ids.update({token: vocabulary[token] for token in structure if token in vocabulary})
    return {token: i for token, i in ids.items() if i is not None and token.strip()}


def _splitter(tokens: Sequence[str] | dict[str, int]) -> re.Pattern[str]:
    """A pattern whose ``split`` gives text, token, text, …; it never matches when there are no tokens."""
    # Of alternatives the first that matches wins: a token that begins another has to come after it.
    longest_first = sorted(tokens, key=len, reverse=True)
    return re.compile(f'({"|".join(map(re.escape, longest_first))})' if longest_first else r'((?!))')


def _common(first: list[int], second: list[int]) -> int:
    """Length of the common beginning."""
    length = min(len(first), len(second))
    return next((i for i in range(length) if first[i] != second[i]), length)
