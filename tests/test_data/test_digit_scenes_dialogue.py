"""Dialogue: every answer is recomputed here from masks and pixels, without the code that gave it."""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest

from internvl_mm.data.digit_scenes import scene_at, video_at
from internvl_mm.data.digit_scenes.captions import describe
from internvl_mm.data.digit_scenes.dialogue import (
    LONG_KINDS,
    PAIR_KINDS,
    SHORT_KINDS,
    TEXT_KINDS,
    VIDEO_KINDS,
    ask,
    ask_all,
    options_of,
    turn,
)
from internvl_mm.data.digit_scenes.palette import INKS
from internvl_mm.data.digit_scenes.phrases import CHOICE_PROMPT, PHRASES, SHORT_PROMPT

SCENES = 60


@pytest.fixture(scope='module')
def scenes():
    return [scene_at('test', seed=5, index=index) for index in range(SCENES)]


def seen(scene) -> list[tuple[int, str, float, float]]:
    """(value, colour, x, y) of each digit from left to right, colour and place measured in the picture."""
    found = []
    for digit in scene.digits:
        rows, columns = np.nonzero(digit.mask)
        painted = np.median(scene.image[digit.mask], axis=0)
        colour = min(INKS, key=lambda ink: np.abs(painted - ink.rgb).sum()).en
        x, y = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
        found.append((digit.value, colour, x / scene.width, y / scene.height))
    return sorted(found, key=lambda digit: digit[2])


def numbers(text: str) -> list[int]:
    return [int(word) for word in re.findall(r'\d+', text)]


def colours_in(text: str) -> list[str]:
    """Names of inks in the order of the text."""
    return re.findall('|'.join(ink.en for ink in INKS), text)


def expected(kind: str, text: str, scene) -> str:
    """The short English answer, worked out from the question's words and the picture."""
    digits = seen(scene)
    values = [digit[0] for digit in digits]
    by_colour = {digit[1]: digit for digit in digits}
    named = [by_colour[colour] for colour in colours_in(text)] if kind != 'presence' else []
    if kind == 'which':
        return ', '.join(map(str, sorted(values)))
    if kind == 'read':
        return ', '.join(map(str, values))
    if kind == 'count':
        return str(len(values))
    if kind == 'sum':
        return str(sum(values))
    if kind == 'largest':
        return str(max(values))
    if kind == 'value':
        return str(named[0][0])
    if kind == 'colour':
        (colour,) = (digit[1] for digit in digits if digit[0] == numbers(text)[0])
        return colour
    if kind == 'presence':
        return 'yes' if numbers(text)[0] in values else 'no'
    if kind == 'compare':
        return max(named)[1]
    if kind == 'relation':
        return 'yes' if named[0][2] < named[1][2] else 'no'
    assert kind == 'where'
    row = ('top', '', 'bottom')[int(named[0][3] * 3)]
    column = ('left', '', 'right')[int(named[0][2] * 3)]
    return f'{row} {column}'.strip() or 'centre'


@pytest.mark.parametrize('kind', SHORT_KINDS)
def test_answers_about_one_picture(kind, scenes):
    asked = 0
    for index, scene in enumerate(scenes):
        question = ask(kind, scene, np.random.default_rng(index), 'en')
        if question is not None:
            asked += 1
            assert question.answer == expected(kind, question.text, scene), question
            assert question.wrong and question.answer not in question.wrong
            assert len(set(question.wrong)) == len(question.wrong)
    assert asked > SCENES // 2


def test_yes_and_no_are_equally_frequent(scenes):
    for kind in ('presence', 'relation'):
        questions = [ask(kind, scenes[i % SCENES], np.random.default_rng(i), 'en') for i in range(6 * SCENES)]
        share = np.mean([question.answer == 'yes' for question in questions if question])
        assert 0.4 < share < 0.6


def test_questions_without_an_answer_are_not_asked(scenes):
    alone = next(scene for scene in scenes if len(scene.digits) == 1)
    for kind in ('sum', 'compare', 'relation', 'largest'):
        assert ask(kind, alone, np.random.default_rng(0), 'en') is None
    assert ask('pair_more', (alone, alone), np.random.default_rng(0), 'en') is None


def test_grounding_box_is_the_digit_in_thousandths(scenes):
    for index, scene in enumerate(scenes[:20]):
        question = ask('ground', scene, np.random.default_rng(index), 'en')
        (box,) = ast.literal_eval(question.answer)
        colour = colours_in(question.text)[0]
        (digit,) = (digit for digit in scene.digits if digit.colour.en == colour)
        np.testing.assert_allclose(np.array(box) * scene.width / 1000, digit.box, atol=0.06)
        assert question.reply == f'<ref>{colour} {digit.value}</ref><box>{question.answer}</box>'


def test_answers_about_two_pictures(scenes):
    for index, pair in enumerate(zip(scenes[::2], scenes[1::2])):
        first, second = ([digit[0] for digit in seen(scene)] for scene in pair)
        answers = {
            question.kind: question.answer
            for question in ask_all(list(PAIR_KINDS), pair, np.random.default_rng(index), 'en')
        }
        common = sorted(set(first) & set(second))
        assert answers['pair_common'] == (', '.join(map(str, common)) or 'none')
        assert answers['pair_total'] == str(len(first) + len(second))
        if len(first) != len(second):
            assert answers['pair_more'] == ('the first' if len(first) > len(second) else 'the second')
        if sum(first) != sum(second):
            assert answers['pair_sum'] == ('the first' if sum(first) > sum(second) else 'the second')


def test_answers_about_videos():
    for index in range(20):
        video = video_at('test', seed=5, index=index)
        answers = {
            question.kind: question.answer
            for question in ask_all(list(VIDEO_KINDS), video, np.random.default_rng(0), 'en')
        }
        frames = [{digit[1]: digit for digit in seen(frame)} for frame in video.frames]
        (mover,) = (colour for colour in frames[0] if frames[0][colour] != frames[-1][colour])
        assert answers['video_colour'] == mover
        assert answers['video_value'] == str(frames[0][mover][0])
        assert answers['video_count'] == str(len(frames[0]))
        shift = np.array(frames[-1][mover][2:]) - frames[0][mover][2:]
        axis = int(np.abs(shift).argmax())
        assert answers['video_direction'] == (('left', 'right'), ('up', 'down'))[axis][int(shift[axis] > 0)]
        x, y = frames[-1][mover][2:]
        place = f'{("top", "", "bottom")[int(3 * y)]} {("left", "", "right")[int(3 * x)]}'.strip() or 'centre'
        assert answers['video_end'] == place


def test_answers_about_plain_numbers():
    values = [7, 2, 9, 2]
    answers = {
        question.kind: question.answer
        for question in ask_all(list(TEXT_KINDS), values, np.random.default_rng(0), 'en')
    }
    assert answers == {
        'text_add': '20',
        'text_sort': '2, 2, 7, 9',
        'text_largest': '9',
        'text_reverse': '2, 9, 2, 7',
    }


def test_both_languages_ask_and_answer_the_same(scenes):
    kinds = [*SHORT_KINDS, *LONG_KINDS]
    for index, scene in enumerate(scenes[:30]):
        for kind in kinds:
            en, zh = (ask(kind, scene, np.random.default_rng(index), language) for language in ('en', 'zh'))
            assert (en is None) == (zh is None)
            if en and kind != 'describe':
                assert numbers(en.answer) == numbers(zh.answer)
                assert len(en.wrong) == len(zh.wrong)
                assert numbers(en.text) == numbers(zh.text)
    colours = {ink.en: ink.zh for ink in INKS}
    en, zh = (ask('colour', scenes[0], np.random.default_rng(0), language) for language in ('en', 'zh'))
    assert colours[en.answer] == zh.answer


def test_every_kind_is_worded_in_both_languages():
    for kind in SHORT_KINDS | LONG_KINDS | PAIR_KINDS | VIDEO_KINDS | TEXT_KINDS:
        assert set(PHRASES[kind]) == {'en', 'zh'}
        assert not any('\u4e00' <= letter <= '\u9fff' for letter in ''.join(PHRASES[kind]['en'].ask))
        assert all(any('\u4e00' <= letter <= '\u9fff' for letter in text) for text in PHRASES[kind]['zh'].ask)


def test_options_hold_the_answer_once_at_the_letter(scenes):
    letters = []
    for index, scene in enumerate(scenes):
        rng = np.random.default_rng(index)
        for question in ask_all(list(SHORT_KINDS), scene, rng, 'en'):
            options, letter = options_of(question, rng)
            assert options['ABCD'.index(letter)] == question.answer
            assert len(set(options)) == len(options) == min(4, 1 + len(question.wrong))
            letters.append(letter)
    assert min(letters.count(letter) for letter in 'ABCD') > 0.1 * len(letters)


def test_turns_come_in_three_styles(scenes):
    endings = {'sentence': 0, 'short': 0, 'choice': 0}
    for index in range(300):
        rng = np.random.default_rng(index)
        question = ask('count', scenes[index % SCENES], rng, 'en')
        text, reply = turn(question, rng, 'en')
        if text.endswith(SHORT_PROMPT['en']):
            endings['short'] += 1
            assert reply == question.answer
        elif text.endswith(CHOICE_PROMPT['en']):
            endings['choice'] += 1
            assert f'\n{reply}. {question.answer}\n' in text
        else:
            endings['sentence'] += 1
            assert (text, reply) == (question.text, question.reply)
    assert all(count > 20 for count in endings.values())


def test_captions_are_five_different_true_sentences(scenes):
    for scene in scenes[:30]:
        digits = seen(scene)
        for language in ('en', 'zh'):
            captions = describe(scene, language)
            assert len(set(captions)) == len(captions) == 5
            for caption in captions:
                assert numbers(caption)[-len(digits) :] == [digit[0] for digit in digits]
        # Each English caption that names colours names them from left to right.
        for caption in describe(scene, 'en'):
            assert colours_in(caption)[: len(digits)] in ([], [digit[1] for digit in digits])


def test_english_grammar_of_one_and_many():
    scenes = [scene_at('train', seed=0, index=index) for index in range(40)]
    one = next(scene for scene in scenes if len(scene.digits) == 1)
    many = next(scene for scene in scenes if len(scene.digits) == 3)
    assert 'one digit:' in describe(one, 'en')[1] and 'three digits:' in describe(many, 'en')[1]
    listing = ' '.join(describe(scene, 'en')[0].lower() for scene in scenes)
    assert 'an orange' in listing and 'a orange' not in listing and 'an red' not in listing
