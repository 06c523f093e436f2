"""A vocabulary learned from captions of DigitScenes: byte-level pieces, English and Chinese, ids 0 to 2 as in Llama."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from internvl_mm.data.digit_scenes.captions import all_captions
from internvl_mm.data.digit_scenes.scene import digit_at, scene_at

SIZE = 512
SCENES = 60  # of each kind; enough to have said every word often
# What models put before a text; one piece each, as far as possible.
FIXED = ('summarize:', 'English caption:', 'Chinese caption:')


def vocabulary_file() -> str:
    """Path of the vocabulary that comes with the package."""
    return str(files('internvl_mm.data.digit_scenes') / 'tokenizer.json')


def train_vocabulary() -> Tokenizer:
    """Learn the vocabulary again; gives what the file holds."""
    tokenizer = Tokenizer(models.BPE(unk_token='<unk>'))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=['<unk>', '<s>', '</s>'],  # ids 0, 1, 2
        # All 256 bytes, so that no text is unknown.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return tokenizer


def _texts() -> Iterator[str]:
    yield from FIXED * SCENES
    for index in range(SCENES):
        for scene in (digit_at('train', seed=0, index=index), scene_at('train', seed=0, index=index)):
            for captions in all_captions(scene).values():
                yield from captions
