"""Captions to token ids, with the published rules of prefix, end token, padding and truncation.

Shape letters: T texts, L tokens of the longest.
Source: InternVL-14B's README, ``clip_benchmark`` and the stage-2 data set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer
from torch import Tensor

from internvl_mm.data.digit_scenes.vocabulary import vocabulary_file
from internvl_mm.registry import TRANSFORMS
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import CheckpointError, ConfigError, DataError, did_you_mean
from internvl_mm.utils.hashing import hash_file, hash_settings
from internvl_mm.utils.paths import ExistingPath

# Ids of Llama vocabularies. Padding shares the id of unknown pieces, as published: the model takes what is above 0.
PAD, BEGIN, END = 0, 1, 2
IGNORED = -100
SUMMARY_PREFIX = 'summarize:'
CAPTION_PROMPT = 'English caption:'
_FILES = ('tokenizer.model', 'tokenizer.json')


@TRANSFORMS.register_module()
class CaptionTokenizer:
    """Texts to ids as InternVL-14B reads them.

    Args:
        path: A ``tokenizer.model`` (sentencepiece) or ``tokenizer.json`` (tokenizers) whose ids 0, 1, 2 are unknown,
            begin and end; or the folder of a model that has one.
        max_length: Most tokens of a text, begin and end included; 80 as published. Longer ones are cut before the end
            token, and counted in ``truncated``.
        prefix: Goes before a text that is compared with images, without a space.
        prompt: Goes before a caption that is generated, in English (``'en'``) or in a language that is not named.
        prompts: Language code to prompt, for captions in other languages. The published code has the English one only.

    Attributes:
        truncated: Number of texts that were cut since the object was made.
        vocab_size: Number of ids.

    Raises:
        CheckpointError: There is no vocabulary, or one with other ids.
    """

    def __init__(
        self,
        path: ExistingPath,
        *,
        max_length: int = 80,
        prefix: str = SUMMARY_PREFIX,
        prompt: str = CAPTION_PROMPT,
        prompts: Mapping[str, str] | None = None,
    ):
        check_counts(max_length=max_length)
        self._encode, self._decode, self.vocab_size = _open_vocabulary(Path(path))
        self._vocabulary_hash = hash_file(_vocabulary_file(Path(path)))
        self.max_length, self.prefix, self.truncated = max_length, prefix, 0
        # None stands for captions whose data set names no language.
        texts: dict[str | None, str] = {None: prompt, 'en': prompt, **(prompts or {})}
        self._prompts = {language: [BEGIN, *self._encode(text)] for language, text in texts.items()}
        # A caption needs room for one token and the end.
        for language, ids in self._prompts.items():
            if len(ids) + 1 >= max_length:
                raise ConfigError(
                    f'max_length={max_length} leaves no room after the prompt {texts[language]!r} of {len(ids)} tokens'
                )

    @property
    def empty_summary(self) -> int:
        """Number of tokens of the summary of nothing; 5 with the published vocabulary."""
        # Begin and end around the pieces of the prefix.
        return 2 + len(self._encode(self.prefix))

    def summaries(self, texts: Sequence[str]) -> Tensor:
        """Ids ``[T, L]`` of texts to compare with images: prefix, text, end."""
        return pad(self.summary_rows(texts))

    def summary_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of :meth:`summaries` without padding, so that texts can be batched by length."""
        return [self._cut(self._encode(self.prefix + text)) for text in texts]

    def fingerprint(self) -> str:
        """Hash of what decides the ids of a summary: vocabulary, prefix, most tokens."""
        return hash_settings([self._vocabulary_hash, self.prefix, self.max_length])

    def plain(self, texts: Sequence[str]) -> Tensor:
        """Ids ``[T, L]`` of texts as they are, for matching."""
        return pad([self._cut(self._encode(text)) for text in texts])

    def captions(
        self, texts: Sequence[str], languages: Sequence[str | None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Ids ``[T, L]`` of prompt and caption, and the labels of generation.

        The last token of the prompt is a target itself, as published.

        Args:
            texts: The captions.
            languages: Code of each one's language, which decides its prompt; ``None`` where none is named.

        Raises:
            ConfigError: A language has no prompt.
        """
        rows, labels = [], []
        for text, language in zip(texts, languages or [None] * len(texts), strict=True):
            prompt = self._prompt_of(language)
            # The caption gets what the prompt leaves of the most tokens; its begin token is the prompt's.
            room = self.max_length - len(prompt) + 1
            row = [*prompt, *self._cut(self._encode(text), room)[1:]]
            # Published quirk: the last token of the prompt is learned, too.
            hidden = len(prompt) - 1
            rows.append(row)
            labels.append([IGNORED] * hidden + row[hidden:])
        return pad(rows), pad(labels, IGNORED)

    def prompts(self, count: int, language: str | None = None) -> Tensor:
        """The caption prompt of a language without end token, ``[count, L]``, to generate from.

        Raises:
            ConfigError: The language has none.
        """
        return torch.tensor([self._prompt_of(language)] * count)

    def _prompt_of(self, language: str | None) -> list[int]:
        if language not in self._prompts:
            known = [code for code in self._prompts if code is not None]
            # The English prompt before another language would be learned, or answered in English, unnoticed.
            raise ConfigError(
                f"language '{language}' has no caption prompt; there are those of {', '.join(known)}: name one with "
                f'tokenizer.prompts=dict({language}=...).{did_you_mean(language, known)}'
            )
        return self._prompts[language]

    def decode(self, ids: Tensor) -> list[str]:
        """Texts of generated ids ``[T, L]``: up to the end token, without special tokens and outer spaces."""
        texts = []
        for row in ids.tolist():
            until = row.index(END) if END in row else len(row)
            # Ids up to END have no text: unknown (which is padding too), begin and end. Nor have those a model adds to
            # the vocabulary, as the published one does a padding token, 49953.
            known = [token for token in row[:until] if END < token < self.vocab_size]
            texts.append(self._decode(known).strip())
        return texts

    def _cut(self, ids: list[int], room: int | None = None) -> list[int]:
        room = room or self.max_length
        # Two places are for begin and end.
        self.truncated += len(ids) > room - 2
        return [BEGIN, *ids[: room - 2], END]


@TRANSFORMS.register_module()
class DigitSceneTokenizer(CaptionTokenizer):
    """The vocabulary of 512 pieces that was learned from captions of DigitScenes.

    Args:
        max_length: See :class:`CaptionTokenizer`; the longest caption of one digit has 33 tokens.
        options: See :class:`CaptionTokenizer`.
    """

    def __init__(self, *, max_length: int = 80, **options: Any):
        super().__init__(vocabulary_file(), max_length=max_length, **options)


def pad(rows: Sequence[Sequence[int]], value: int = PAD) -> Tensor:
    """Rows of ids side by side, ``[T, L]``, filled up on the right."""
    length = max(map(len, rows), default=0)
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows], dtype=torch.long)


def same_length(*ids: Tensor) -> list[Tensor]:
    """Ids ``[T, L_k]`` padded on the right to one length."""
    length = max(part.shape[1] for part in ids)
    return [torch.nn.functional.pad(part, (0, length - part.shape[1]), value=PAD) for part in ids]


# Text to ids, ids to text, number of ids.
_Vocabulary: TypeAlias = tuple[Callable[[str], list[int]], Callable[[list[int]], str], int]


def _open_vocabulary(path: Path) -> _Vocabulary:
    opened: _Vocabulary
    path = _vocabulary_file(path)
    try:
        if path.suffix == '.json':
            if not {'model', 'added_tokens'} <= json.loads(path.read_text('utf-8')).keys():
                raise ValueError('no model in it')
            # Without the file's own special tokens below: begin and end are put in by this class, for both kinds alike.
            fast = Tokenizer.from_file(str(path))
            special = [fast.id_to_token(number) for number in (PAD, BEGIN, END)]
            opened = (
                lambda text: fast.encode(text, add_special_tokens=False).ids,
                lambda ids: fast.decode(ids),
                fast.get_vocab_size(),
            )
        else:
            pieces = SentencePieceProcessor(model_file=str(path))
            special = [pieces.id_to_piece(number) for number in (PAD, BEGIN, END)]
            opened = (
                lambda text: pieces.encode(text),
                lambda ids: pieces.decode(ids),
                pieces.get_piece_size(),
            )
    except (OSError, RuntimeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f'{path} is not a vocabulary of sentencepiece or tokenizers ({error}): get it again'
        ) from error
    if special != ['<unk>', '<s>', '</s>']:
        raise CheckpointError(
            f'{path}: ids 0, 1, 2 are {special}, but must be unknown, begin and end (<unk>, <s>, </s>) as in Llama'
        )
    return opened


def _vocabulary_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in _FILES if (path / name).is_file()]
    if not found:
        raise CheckpointError(
            f'{path} has no {" or ".join(_FILES)}: give the folder of a model with its vocabulary'
        )
    return found[0]


def require_captions(texts: Sequence[str | None], paths: Sequence[str | None]) -> list[str]:
    """Captions of a batch, each with at least one letter.

    Raises:
        DataError: Names the first sample without.
    """
    for text, path in zip(texts, paths, strict=True):
        if not text or not text.strip():
            raise DataError(
                f'{path or "a sample"} has no caption: leave such samples out (min_words of the filter of the data set)'
            )
    return [text for text in texts if text]
