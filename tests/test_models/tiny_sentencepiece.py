"""A sentencepiece tokenizer trained in the test, in a folder as Llama's are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sentencepiece

from internvl_mm.preprocess.conversation import VICUNA_SYSTEM

TEXT = (
    VICUNA_SYSTEM + ' USER: What is it?\nASSISTANT: a cat',
    'the quick brown fox <human>: jumps over <bot>: the lazy dog',
    '你好 世界 hello world  two  spaces',
)
PIECES = 340
ADDED = ('<|im_start|>', '<|im_end|>')


def write_llama_tokenizer(folder: Path, *, legacy: bool | None, **settings: Any) -> None:
    """Write ``tokenizer.model`` and ``tokenizer_config.json``; ``legacy`` None leaves the setting out."""
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 20),
        model_prefix=str(folder / 'tokenizer'),
        vocab_size=PIECES,
        model_type='bpe',
        byte_fallback=True,
        character_coverage=0.99,
        split_digits=True,
        remove_extra_whitespaces=False,
        normalization_rule_name='identity',
        pad_id=-1,
        minloglevel=2,
    )
    flags = dict(special=True, lstrip=False, rstrip=False, normalized=False, single_word=False)
    names = ['<unk>', '<s>', '</s>', *ADDED]
    ids = [0, 1, 2, *range(PIECES, PIECES + len(ADDED))]
    stored: dict[str, Any] = dict(
        tokenizer_class='LlamaTokenizer',
        bos_token='<s>',
        eos_token='</s>',
        unk_token='<unk>',
        additional_special_tokens=list(ADDED),
        added_tokens_decoder={
            str(i): dict(content=name, **flags) for i, name in zip(ids, names, strict=True)
        },
        clean_up_tokenization_spaces=False,
        sp_model_kwargs={},
        **settings,
    )
    if legacy is not None:
        stored['legacy'] = legacy
    (folder / 'tokenizer_config.json').write_text(json.dumps(stored))
