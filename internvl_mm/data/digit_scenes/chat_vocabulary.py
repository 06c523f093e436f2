"""A tokenizer learned from conversations about DigitScenes, with the tokens of ChatML and of images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from internvl_mm.data.digit_scenes.dialogue import SHORT_KINDS, ask
from internvl_mm.data.digit_scenes.scene import sample_rng, scene_at

SIZE = 628  # byte-level pieces; 640 ids with the tokens below
SCENES = 40  # enough to have asked everything in every wording
FRAME = ('<|endoftext|>', '<|im_start|>', '<|im_end|>')
ROLES = ('system\n', 'user\n', 'assistant\n')  # what ChatML writes after <|im_start|>
# As in preprocess.chat_text, which this room does not import: what releases add to a language model's tokenizer.
IMAGES = ('<img>', '</img>', '<IMG_CONTEXT>', '<quad>', '</quad>', '<ref>', '</ref>', '<box>', '</box>')


def digit_chat_tokenizer() -> PreTrainedTokenizerFast:
    """Learn the tokenizer; always the same one, in a fraction of a second."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_learned()),
        eos_token='<|im_end|>',
        pad_token='<|endoftext|>',
        additional_special_tokens=['<|im_start|>', *IMAGES],
        clean_up_tokenization_spaces=False,
    )


@cache
def _learned() -> str:
    tokenizer = Tokenizer(models.BPE())
    # Digits one by one, so that numbers are read and said figure by figure; what is between them is not split into
    # words, so that pieces may be whole questions: a small model then spends its time on pictures and answers.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=list(FRAME),
        # All 256 bytes, so that no text is unknown.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return tokenizer.to_str()


def _texts() -> Iterator[str]:
    for index in range(SCENES):
        yield from ROLES
        scene, rng = (
            scene_at('train', seed=0, index=index),
            sample_rng(0, 'train', 'dialogue', index),
        )
        for kind in SHORT_KINDS:
            question = ask(kind, scene, rng, 'en')
            if question is not None:
                yield from (question.text, question.answer)
