"""Llama's tokenizer from ``tokenizer.model``, with the ids published chat models were trained on.

transformers 5 rebuilds these tokenizers in the tokenizers library. Two things are other there than in the version the
models were made with (4.37, ``use_fast=False``): a folder that does not say ``legacy`` is taken for a new one, though
it was then a legacy one; and text that begins with a space, as every prompt of ``internvl_zh`` does, gets no space in
front.
"""

from __future__ import annotations

from typing import Any

from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

from .tokenizer import InternLM2Tokenizer

_SPACE = '▁'


class LlamaTokenizer(InternLM2Tokenizer):
    """Sentencepiece with added tokens, as transformers 4.37's slow tokenizer of this name: same ids.

    Args:
        vocab_file: The sentencepiece model.
        pad_token: None where the folder names none.
        legacy: Every run of text between added tokens gets a space in front, as sentencepiece gives it; otherwise only
            the first. What a folder leaves out was legacy.
        **kwargs: Of :class:`InternLM2Tokenizer`.

    Source: transformers 4.37 ``tokenization_llama.py``; on legacy: huggingface/transformers#24565.
    """

    def __init__(
        self, vocab_file: str, pad_token: str | None = None, legacy: bool | None = None, **kwargs: Any
    ):
        self.legacy = True if legacy is None else legacy
        super().__init__(vocab_file, pad_token=pad_token, legacy=self.legacy, **kwargs)
        if not self.legacy:
            # The one space in front is put there by tokenize.
            self.sp_model = _without_prefix(self.sp_model)

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """Pieces of a text."""
        if self.legacy or not text:
            return super().tokenize(text, **kwargs)
        tokens = super().tokenize(_SPACE + text.replace(_SPACE, ' '), **kwargs)
        # A text that begins with a special token has no text to put a space in front of.
        alone = len(tokens) > 1 and tokens[0] == _SPACE and tokens[1] in self.all_special_tokens
        return tokens[1:] if alone else tokens

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        del kwargs
        if self.legacy or not text.startswith((_SPACE, ' ')):
            return self.sp_model.encode(text, out_type=str)
        # Sentencepiece may strip spaces a text begins with; behind another token it keeps them.
        tokens = self.sp_model.encode(str(self.unk_token) + text, out_type=str)
        return tokens[len(self.sp_model.encode(str(self.unk_token))) :]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Text of tokens; the space put in front of the first is left out."""
        special, text, pieces = set(self.all_special_tokens), '', []
        if tokens and tokens[0].startswith(_SPACE):
            tokens = [tokens[0][1:], *tokens[1:]]
        after_special = True  # before the first token there is no space, either
        for token in tokens:
            if token not in special:
                pieces.append(token)
                after_special = False
                continue
            text += (' ' if self.legacy and not after_special else '') + self.sp_model.decode(pieces) + token
            pieces, after_special = [], True
        return text + self.sp_model.decode(pieces)


def _without_prefix(model: SentencePieceProcessor) -> SentencePieceProcessor:
    """The same pieces from a model that puts no space in front of a text."""
    settings = sentencepiece_model_pb2.ModelProto.FromString(  # type: ignore[attr-defined]
        model.serialized_model_proto()
    )
    settings.normalizer_spec.add_dummy_prefix = False
    return SentencePieceProcessor(model_proto=settings.SerializeToString())
