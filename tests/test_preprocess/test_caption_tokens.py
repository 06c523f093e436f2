"""Captions to ids by the published rules, with both kinds of vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentencepiece import SentencePieceTrainer
from transformers import LlamaTokenizer

from internvl_mm.data.digit_scenes.vocabulary import train_vocabulary, vocabulary_file
from internvl_mm.preprocess.caption_tokens import (
    CaptionTokenizer,
    DigitSceneTokenizer,
    require_captions,
    same_length,
)
from internvl_mm.preprocess.class_prompts import ClassPrompts
from internvl_mm.utils.errors import CheckpointError, ConfigError, DataError

TEXTS = [
    'a red panda on a wooden platform',
    'two words',
    'summarize: a photo',
    'English caption: two dogs play',
]


@pytest.fixture(scope='module')
def pieces(tmp_path_factory) -> Path:
    """A sentencepiece vocabulary with the ids of Llama's."""
    folder = tmp_path_factory.mktemp('pieces')
    SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_prefix=str(folder / 'tokenizer'),
        vocab_size=60,
        model_type='bpe',
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return folder


def test_summaries_are_prefix_text_and_end_padded_with_zero(pieces: Path) -> None:
    read = CaptionTokenizer(str(pieces))
    ids = read.summaries(['two words', 'a red panda on a wooden platform'])
    assert ids[:, 0].tolist() == [1, 1]
    lengths = (ids > 0).sum(dim=1)
    assert lengths[0] < lengths[1] == ids.shape[1]
    assert [int(row[length - 1]) for row, length in zip(ids, lengths, strict=True)] == [2, 2]
    assert read.decode(ids[:, 1:]) == ['summarize:two words', 'summarize:a red panda on a wooden platform']
    # A model may have ids the vocabulary has not, as the published padding token; they are no text.
    beyond = torch.tensor([[ids[0, 1], read.vocab_size, ids[0, 2]]])
    assert read.decode(beyond) == read.decode(ids[:1, 1:3])
    assert read.empty_summary == int((read.summaries(['']) > 0).sum())


def test_ids_are_those_of_transformers(pieces: Path) -> None:
    theirs = LlamaTokenizer.from_pretrained(pieces)
    for text in TEXTS:
        ids = theirs(text, add_special_tokens=False)['input_ids']
        assert CaptionTokenizer(str(pieces)).plain([text])[0].tolist() == [1, *ids, 2]


def test_long_texts_keep_their_end_and_are_counted(pieces: Path) -> None:
    read = CaptionTokenizer(str(pieces), max_length=12, prompt='two')
    ids = read.plain([TEXTS[0], 'two'])
    assert ids.shape[1] == 12 and ids[0, -1] == 2
    assert read.truncated == 1
    caption, labels = read.captions([TEXTS[0]])
    assert caption.shape == labels.shape == (1, 12) and caption[0, -1] == labels[0, -1] == 2
    assert read.truncated == 2


def test_labels_of_captions_begin_with_the_last_token_of_the_prompt(pieces: Path) -> None:
    read = CaptionTokenizer(str(pieces))
    ids, labels = read.captions(['two words', 'a red panda on a wooden platform'])
    prompt = read.prompts(1)
    assert torch.equal(ids[:, : prompt.shape[1]], prompt.expand(2, -1)) and 2 not in prompt
    hidden = prompt.shape[1] - 1
    assert (labels[:, :hidden] == -100).all() and torch.equal(labels[:, hidden], ids[:, hidden])
    assert torch.equal(labels[ids == 0], torch.full_like(labels[ids == 0], -100))


def test_languages_have_their_own_prompt() -> None:
    read = DigitSceneTokenizer(prompts=dict(zh='Chinese caption:'))
    english, chinese = read.prompts(1), read.prompts(2, 'zh')
    assert len(chinese) == 2 and chinese[0].tolist() != english[0].tolist()
    assert torch.equal(read.prompts(1, 'en'), english)
    ids, labels = read.captions(['a 3', '一个3'], ['en', 'zh'])
    assert ids[0, : english.shape[1]].tolist() == english[0].tolist()
    assert ids[1, : chinese.shape[1]].tolist() == chinese[0].tolist()
    assert (labels[1, : chinese.shape[1] - 1] == -100).all()
    assert torch.equal(read.captions(['a 3'])[0], read.captions(['a 3'], ['en'])[0])
    with pytest.raises(
        ConfigError, match="language 'zh_' has no caption prompt; there are those of en, zh: .*'zh'"
    ):
        read.captions(['a 3'], ['zh_'])
    with pytest.raises(ConfigError, match=r"language 'de' .*tokenizer.prompts=dict\(de=\.\.\.\)"):
        read.prompts(1, 'de')
    with pytest.raises(ConfigError, match="no room after the prompt 'Chinese caption:'"):
        DigitSceneTokenizer(max_length=4, prompt='a', prompts=dict(zh='Chinese caption:'))


def test_one_length_for_several() -> None:
    parts = same_length(torch.ones(2, 3), torch.ones(2, 5))
    assert [part.shape[1] for part in parts] == [5, 5] and parts[0][0].tolist() == [1, 1, 1, 0, 0]


def test_the_vocabulary_of_digit_scenes_is_learned_from_its_captions() -> None:
    assert train_vocabulary().to_str(pretty=True) == Path(vocabulary_file()).read_text('utf-8')
    read = DigitSceneTokenizer()
    text = 'The picture shows one digit: 4.'
    assert read.vocab_size == 512 and read.decode(read.plain([text, '一个红色的3。'])[:, 1:]) == [
        text,
        '一个红色的3。',
    ]
    assert read.summaries([text]).shape[1] < 14


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='has no tokenizer.model or tokenizer.json'):
        CaptionTokenizer(str(tmp_path))
    for name, text in {'a.json': '{}', 'b.json': 'x', 'c.model': 'x'}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(CheckpointError, match='is not a vocabulary'):
            CaptionTokenizer(str(tmp_path / name))
    wrong = Path(vocabulary_file()).read_text('utf-8').replace('"<s>"', '"<b>"')
    (tmp_path / 'tokenizer.json').write_text(wrong, 'utf-8')
    with pytest.raises(CheckpointError, match=r"ids 0, 1, 2 are \['<unk>', '<b>', '</s>'\]"):
        CaptionTokenizer(str(tmp_path))
    with pytest.raises(ConfigError, match='max_length=4 leaves no room'):
        DigitSceneTokenizer(max_length=4)


@pytest.mark.parametrize('text', [None, '', '  '])
def test_samples_without_caption_are_told(text: str | None) -> None:
    with pytest.raises(DataError, match='b.png has no caption'):
        require_captions(['good', text], ['a.png', 'b.png'])


def test_class_prompts() -> None:
    prompts = ClassPrompts(('cat', 'dog'), ('a {c}.', 'a {c}.'))
    assert prompts.sentences() == [['a cat.', 'a cat.'], ['a dog.', 'a dog.']]
    with pytest.raises(ConfigError, match="such as 'crane'.*allow_equal_names=True"):
        ClassPrompts(('crane', 'crane'))
    assert len(ClassPrompts(('crane', 'crane'), allow_equal_names=True).names) == 2
    with pytest.raises(ConfigError, match="'a cat' has no '{c}'"):
        ClassPrompts(('cat',), ('a cat',))
    with pytest.raises(ConfigError, match='at least one name'):
        ClassPrompts(())
