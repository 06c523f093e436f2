"""InternLM2's tokenizer from ``tokenizer.model``, without the Python file that comes with the folders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor
from transformers import PreTrainedTokenizer

from internvl_mm.utils.errors import CheckpointError

FILE = 'tokenizer.model'


class InternLM2Tokenizer(PreTrainedTokenizer):
    """Sentencepiece with added tokens, as the published slow tokenizer: same ids, same text back.

    Tokens that a folder adds at the id of an unused piece (``<|im_start|>`` is 92543) replace that piece.

    Args:
        vocab_file: The sentencepiece model.
        add_bos_token: Put ``<s>`` in front.
        add_eos_token: Put ``</s>`` behind.
        **kwargs: Of every transformers tokenizer.

    Raises:
        CheckpointError: The file is missing or not a sentencepiece model.

    Source: InternLM2 ``tokenization_internlm2.py``.
    """

    vocab_files_names = {'vocab_file': FILE}
    # Without token_type_ids, which Llama's models do not take.
    model_input_names = ['input_ids', 'attention_mask']

    def __init__(
        self,
        vocab_file: str,
        unk_token: str = '<unk>',
        bos_token: str = '<s>',
        eos_token: str = '</s>',
        # As published, padding is the end token: a mask cannot be told from ids alone.
        pad_token: str = '</s>',
        add_bos_token: bool = True,
        add_eos_token: bool = False,
        **kwargs: Any,
    ):
        self.vocab_file = vocab_file
        self.add_bos_token, self.add_eos_token = add_bos_token, add_eos_token
        # Before the parent's constructor, which asks for the vocabulary.
        self.sp_model = SentencePieceProcessor()
        try:
            self.sp_model.Load(str(vocab_file))
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f'{vocab_file} is missing or no sentencepiece model: get the file again'
            ) from error
        kwargs.pop('sp_model_kwargs', None)  # empty in every published folder
        super().__init__(
            unk_token=unk_token,
            bos_token=bos_token,
            eos_token=eos_token,
            pad_token=pad_token,
            add_bos_token=add_bos_token,
            add_eos_token=add_eos_token,
            **kwargs,
        )

    @property
    def vocab_size(self) -> int:
        """Pieces of the sentencepiece model."""
        return self.sp_model.get_piece_size()

    def get_vocab(self) -> dict[str, int]:
        """Token to id; a piece whose id was taken by an added token is not in it."""
        taken = self._added_tokens_decoder
        vocab = {
            self.sp_model.IdToPiece(index): index for index in range(self.vocab_size) if index not in taken
        }
        return {**vocab, **self._added_tokens_encoder}

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        del kwargs
        return self.sp_model.encode(text, out_type=str)

    def _convert_token_to_id(self, token: str) -> int:
        # Of an unknown piece the id of <unk>.
        return self.sp_model.piece_to_id(token)

    def _convert_id_to_token(self, index: int) -> str:
        return self.sp_model.IdToPiece(index)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Text of tokens; a space goes before every run of text and special tokens, and the first is left out."""
        special, text, pieces = set(self.all_special_tokens), '', []
        after_special = False
        for token in tokens:
            if token not in special:
                pieces.append(token)
                after_special = False
                continue
            text += ('' if after_special else ' ') + self.sp_model.decode(pieces) + token
            pieces, after_special = [], True
        # The published class puts one more space in front and cuts it off again.
        return self.clean_up_tokenization(text + self.sp_model.decode(pieces))

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Put begin and end around one or two sequences, as asked for."""
        begin = [self.bos_token_id] if self.add_bos_token else []
        end = [self.eos_token_id] if self.add_eos_token else []
        return begin + token_ids_0 + (token_ids_1 or []) + end

    def save_vocabulary(
        self, save_directory: str | os.PathLike, filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Copy the sentencepiece model; the rest is in the tokenizer's configuration."""
        name = f'{filename_prefix}-{FILE}' if filename_prefix else FILE
        target = Path(save_directory) / name
        # Saved into the folder it is from: shutil refuses to copy a file onto itself.
        if target.resolve() != Path(self.vocab_file).resolve():
            shutil.copyfile(self.vocab_file, target)
        return (str(target),)
