"""Questions from annotations and about digits: prompts, answers, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from internvl_mm.data.collate_prompts import collate_questions
from internvl_mm.data.datasets.digit_chat import DigitChatDataset, DigitQuestionDataset
from internvl_mm.data.datasets.questions import QuestionDataset
from internvl_mm.data.digit_scenes.chat_vocabulary import FRAME, IMAGES, digit_chat_tokenizer
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.preprocess.chat import ChatEncoder
from internvl_mm.preprocess.chat_text import ADDED_TOKENS
from internvl_mm.preprocess.tiling import SquashTiling
from internvl_mm.structures import IGNORE
from internvl_mm.utils.errors import ConfigError, DataError
from tests.cases import image_bytes


@pytest.fixture(scope='module')
def encoder() -> ChatEncoder:
    tiling = SquashTiling(56)
    return ChatEncoder(
        digit_chat_tokenizer(), 'internvl2_5', system_message='', tokens_per_tile=4, tiling=tiling
    )


def text_of(encoder: ChatEncoder, ids: torch.Tensor) -> str:
    return encoder.tokenizer.decode(ids)


def write(folder: Path, *lines: dict) -> str:
    (folder / 'a.png').write_bytes(image_bytes(1))
    (folder / 'q.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return str(folder / 'q.jsonl')


def test_vocabulary_knows_the_tokens_of_images_and_of_the_template(encoder: ChatEncoder) -> None:
    tokenizer = encoder.tokenizer
    assert IMAGES == ADDED_TOKENS  # written twice, because rooms do not import each other backwards
    assert [tokenizer.convert_tokens_to_ids(token) for token in FRAME] == [0, 1, 2]
    assert len(tokenizer) <= 640 and len(tokenizer('3, 7').input_ids) == 3


def test_a_prompt_ends_where_the_answer_begins(encoder: ChatEncoder, tmp_path: Path) -> None:
    lines = [
        dict(image='a.png', question='How many digits are in the image?', answer='two', kind='count'),
        dict(image='a.png', question='Which digits?', answer=['1, 2', '2, 1'], kind='which'),
    ]
    questions = QuestionDataset(write(tmp_path, *lines), encoder, root=str(tmp_path), suffix=' Be brief.')
    item = questions[0]
    assert text_of(encoder, item['inputs'].input_ids) == (
        '<|im_start|>system\n<|im_end|>\n<|im_start|>user\n<img><IMG_CONTEXT><IMG_CONTEXT><IMG_CONTEXT><IMG_CONTEXT>'
        '</img>\nHow many digits are in the image? Be brief.<|im_end|>\n<|im_start|>assistant\n'
    )
    assert (item['inputs'].labels == IGNORE).all()
    assert item['data_samples'].answers == ['two'] and item['data_samples'].kind == 'count'
    assert questions[1]['data_samples'].answers == ['1, 2', '2, 1']
    batch = collate_questions([questions[0], questions[1]])
    assert [sample.index for sample in batch['data_samples']] == [0, 1]
    assert len(batch['inputs']) == 2 and batch['bad_samples'] == []
    some = QuestionDataset(questions.annotation, encoder, root=str(tmp_path), kinds=('which',))
    assert len(some) == 1 and some[0]['data_samples'].kind == 'which'
    assert some.fingerprint() != questions.fingerprint()


def test_pictures_come_first_and_are_numbered(encoder: ChatEncoder, tmp_path: Path) -> None:
    line = dict(image=['a.png', 'a.png'], question='More?', answer='the first')
    dataset = QuestionDataset(write(tmp_path, line), encoder, root=str(tmp_path))
    text = text_of(encoder, dataset[0]['inputs'].input_ids).replace('<IMG_CONTEXT>', '')
    assert 'user\nImage-1: <img></img>\nImage-2: <img></img>\nMore?' in text


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        (dict(image=5), 'image or video is 5'),
        (dict(answer=['two', '\ud83d']), 'an answer holds .* half of a character'),
    ],
)
def test_odd_values_are_told(encoder: ChatEncoder, tmp_path: Path, change: dict, problem: str) -> None:
    line = dict(image='a.png', question='How many?', answer='two')
    dataset = QuestionDataset(write(tmp_path, {**line, **change}), encoder, root=str(tmp_path))
    with pytest.raises(DataError, match=rf'q\.jsonl:1: {problem}'):
        dataset[0]


@pytest.mark.parametrize('line', [dict(question='What?'), dict(answer='two'), dict(question='a', answer=[])])
def test_incomplete_questions_are_told(encoder: ChatEncoder, tmp_path: Path, line: dict) -> None:
    dataset = QuestionDataset(write(tmp_path, line), encoder)
    with pytest.raises(DataError, match=r'q\.jsonl:1: needs question, a text, and answer'):
        dataset[0]
    with pytest.raises(DataError, match=r"has no question with kinds=\('no',\)"):
        QuestionDataset(dataset.annotation, encoder, kinds=('no',))


def test_training_scenes_are_new_in_every_epoch_and_test_questions_are_not(encoder: ChatEncoder) -> None:
    train = DigitChatDataset('train', encoder, length=3, num_digits=(1, 2), canvas=56)
    first, again, later = (train[SampleIndex(1, epoch)]['inputs'] for epoch in (0, 0, 1))
    assert torch.equal(first.tiles, again.tiles) and torch.equal(first.input_ids, again.input_ids)
    assert not torch.equal(first.tiles, later.tiles)
    facts = dict(
        template='internvl2_5',
        system_message='',
        tokens_per_tile=4,
        vocabulary=len(encoder.tokenizer),
    )
    assert train.metainfo == dict(name='DigitChatDataset', encoder=facts)
    learned = text_of(encoder, first.input_ids[first.labels != IGNORE])
    assert learned.count('<|im_end|>') == 3  # an answer of every kind
    test = DigitQuestionDataset('test', encoder, length=2, num_digits=(1, 2), canvas=56)
    assert len(test) == 6
    assert [test[number]['data_samples'].kind for number in range(6)] == ['which', 'count', 'where'] * 2
    late = test[SampleIndex(4, 7)]
    assert torch.equal(late['inputs'].tiles, test[4]['inputs'].tiles)
    assert late['data_samples'].answers[0] in ('1', '2')
    with pytest.raises(ConfigError, match=r"kinds names 'wich'; .*Did you mean 'which'"):
        DigitQuestionDataset('test', encoder, length=2, kinds=('wich',))
    with pytest.raises(ConfigError, match=r'kinds=\(\): name at least one of which, count, where'):
        DigitQuestionDataset('test', encoder, length=2, kinds=())
    with pytest.raises(ConfigError, match="no texts in 'fr', only in en and zh"):
        DigitChatDataset('train', encoder, length=2, language='fr')


def test_fewer_questions_about_a_scene(encoder: ChatEncoder) -> None:
    def ask(**options: object) -> DigitChatDataset:
        return DigitChatDataset('train', encoder, length=12, num_digits=(1, 1), canvas=56, **options)

    samples = [ask(turns=1)[number]['inputs'] for number in range(12)]
    assert all(int((sample.input_ids[sample.labels != IGNORE] == 2).sum()) == 1 for sample in samples)
    answers = {text_of(encoder, sample.input_ids[sample.labels != IGNORE]) for sample in samples}
    assert len(answers) > 4  # of all kinds: numbers, and places
    assert ask(turns=1).fingerprint() != ask().fingerprint() == ask(turns=3).fingerprint()
    with pytest.raises(ConfigError, match='turns=0'):
        ask(turns=0)
    # A single digit cannot be compared.
    lone = ask(kinds=('compare', 'sum'))
    with pytest.raises(DataError, match=r'a scene of 1 allows none of (sum|compare), (sum|compare)'):
        lone[0]
