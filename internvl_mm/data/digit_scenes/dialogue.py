"""Questions about scenes, pairs of scenes, videos and plain numbers, with answers computed from what is in them.

A *fact* function looks at its subject and returns language-neutral terms; :func:`ask` words them. The same generator
state gives the same question in both languages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from internvl_mm.data.digit_scenes.captions import describe
from internvl_mm.data.digit_scenes.language import (
    DIRECTION_TERMS,
    FIRST,
    LANGUAGES,
    NONE,
    PLACES,
    SECOND,
    Term,
    count_of_digits,
    figures,
    name,
    number,
    place,
    yes_no,
)
from internvl_mm.data.digit_scenes.palette import INKS
from internvl_mm.data.digit_scenes.phrases import CHOICE_PROMPT, PHRASES, SHORT_PROMPT
from internvl_mm.data.digit_scenes.scene import MAX_DIGITS, Scene, SceneDigit
from internvl_mm.data.digit_scenes.video import Video

BOX_SCALE = 1000  # boxes in text are whole numbers of 0–1000 relative to the picture's width and height
COLOURS = [Term(ink.en, ink.zh) for ink in INKS]
ALL_PLACES = [term for row in PLACES for term in row]


@dataclass(frozen=True)
class Facts:
    """What a question is about: its answer, plausible wrong answers, and the slots of its phrase."""

    answer: Term
    wrong: Sequence[Term] = ()
    slots: dict[str, Term] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A question in one language.

    Args:
        kind: Key of ``PHRASES``.
        text: The question.
        answer: Short answer (a word, a number, a list).
        reply: The same as a full sentence.
        wrong: Plausible wrong short answers, all different from ``answer``.
    """

    kind: str
    text: str
    answer: str
    reply: str
    wrong: tuple[str, ...]


def pick(items: Sequence[Any], rng: np.random.Generator) -> Any:
    """Return one of ``items``, each as likely."""
    return items[int(rng.integers(len(items)))]


# --- one picture


def _which(scene: Scene, rng: np.random.Generator) -> Facts:
    values = sorted(digit.value for digit in scene.digits)
    return Facts(figures(values), _other_lists(values))


def _count(scene: Scene, rng: np.random.Generator) -> Facts:
    count = len(scene.digits)
    return Facts(
        number(count), [number(n) for n in range(1, MAX_DIGITS + 1)], {'count': count_of_digits(count)}
    )


def _where(scene: Scene, rng: np.random.Generator) -> Facts:
    digit = pick(scene.digits, rng)
    return Facts(place(digit, scene), ALL_PLACES, {'name': name(digit)})


def _colour(scene: Scene, rng: np.random.Generator) -> Facts | None:
    values = [digit.value for digit in scene.digits]
    # A value that is there twice has no one colour.
    unique = [digit for digit in scene.digits if values.count(digit.value) == 1]
    if not unique:
        return None
    digit = pick(unique, rng)
    return Facts(_colour_term(digit), COLOURS, {'value': number(digit.value)})


def _value(scene: Scene, rng: np.random.Generator) -> Facts:
    digit = pick(scene.digits, rng)
    # By colour, which no other digit of the scene has.
    return Facts(number(digit.value), _other_values(digit.value), {'colour': _colour_term(digit)})


def _read(scene: Scene, rng: np.random.Generator) -> Facts:
    values = [digit.value for digit in scene.digits]
    return Facts(figures(values), _other_lists(values))


def _sum(scene: Scene, rng: np.random.Generator) -> Facts | None:
    values = [digit.value for digit in scene.digits]
    return _addition(values) if len(values) > 1 else None


def _compare(scene: Scene, rng: np.random.Generator) -> Facts | None:
    if len({digit.value for digit in scene.digits}) < 2:
        return None
    first = pick(scene.digits, rng)
    second = pick([digit for digit in scene.digits if digit.value != first.value], rng)
    low, high = sorted((first, second), key=lambda digit: digit.value)
    slots = {'first': _colour_term(first), 'second': _colour_term(second)}
    slots |= {'low': number(low.value), 'high': number(high.value)}
    return Facts(_colour_term(high), [_colour_term(low)], slots)


def _relation(scene: Scene, rng: np.random.Generator) -> Facts | None:
    if len(scene.digits) < 2:
        return None
    i, j = rng.choice(len(scene.digits), 2, replace=False)
    first, second = scene.digits[i], scene.digits[j]
    # By x first: the reading order.
    left, right = sorted((first, second), key=lambda digit: digit.centre)
    slots = {'first': name(first), 'second': name(second), 'left': name(left), 'right': name(right)}
    return Facts(yes_no(first is left), [yes_no(first is right)], slots)


def _presence(scene: Scene, rng: np.random.Generator) -> Facts:
    there = {digit.value for digit in scene.digits}
    # As many questions with the answer yes as with no.
    wanted = sorted(there) if rng.random() < 0.5 else sorted(set(range(10)) - there)
    value = pick(wanted, rng)
    return Facts(yes_no(value in there), [yes_no(value not in there)], {'value': number(value)})


def _largest(scene: Scene, rng: np.random.Generator) -> Facts | None:
    values = [digit.value for digit in scene.digits]
    return Facts(number(max(values)), _other_values(max(values))) if len(values) > 1 else None


def _describe(scene: Scene, rng: np.random.Generator) -> Facts:
    # One variant for both languages, which have equally many.
    variant = int(rng.integers(len(describe(scene, 'en'))))
    return Facts(Term(*(describe(scene, language)[variant] for language in LANGUAGES)))


def _ground(scene: Scene, rng: np.random.Generator) -> Facts:
    digit = pick(scene.digits, rng)
    box = f'[{list(scaled_box(digit, scene))}]'
    return Facts(Term(box, box), slots={'name': name(digit)})


# --- two pictures


def _pair_more(pair: tuple[Scene, Scene], rng: np.random.Generator) -> Facts | None:
    counts = [len(scene.digits) for scene in pair]
    # A draw has no right answer.
    if counts[0] == counts[1]:
        return None
    return _first_or_second(counts, [count_of_digits(count) for count in counts])


def _pair_common(pair: tuple[Scene, Scene], rng: np.random.Generator) -> Facts:
    first, second = ({digit.value for digit in scene.digits} for scene in pair)
    common = sorted(first & second)
    wrong = [figures(sorted(first | second)), figures(sorted(first)), figures(sorted(second))]
    # Whichever is right is taken out of the wrong ones by `ask`.
    return Facts(figures(common) if common else NONE, [*wrong, NONE])


def _pair_total(pair: tuple[Scene, Scene], rng: np.random.Generator) -> Facts:
    return _addition([len(scene.digits) for scene in pair])


def _pair_sum(pair: tuple[Scene, Scene], rng: np.random.Generator) -> Facts | None:
    sums = [sum(digit.value for digit in scene.digits) for scene in pair]
    return _first_or_second(sums, [number(total) for total in sums]) if sums[0] != sums[1] else None


# --- video


def _video_value(video: Video, rng: np.random.Generator) -> Facts:
    return Facts(number(video.mover(0).value), _other_values(video.mover(0).value))


def _video_direction(video: Video, rng: np.random.Generator) -> Facts:
    return Facts(
        DIRECTION_TERMS[video.direction], list(DIRECTION_TERMS.values()), {'name': name(video.mover(0))}
    )


def _video_colour(video: Video, rng: np.random.Generator) -> Facts:
    return Facts(_colour_term(video.mover(0)), COLOURS)


def _video_count(video: Video, rng: np.random.Generator) -> Facts:
    return _count(video.frames[0], rng)


def _video_end(video: Video, rng: np.random.Generator) -> Facts:
    return Facts(place(video.mover(-1), video.frames[-1]), ALL_PLACES)


# --- plain numbers


def _text_add(values: Sequence[int], rng: np.random.Generator) -> Facts:
    return _addition(values)


def _text_sort(values: Sequence[int], rng: np.random.Generator) -> Facts:
    return Facts(figures(sorted(values)), _other_lists(sorted(values)), {'values': figures(values)})


def _text_largest(values: Sequence[int], rng: np.random.Generator) -> Facts:
    return Facts(number(max(values)), _other_values(max(values)), {'values': figures(values)})


def _text_reverse(values: Sequence[int], rng: np.random.Generator) -> Facts:
    backwards = list(values)[::-1]
    return Facts(figures(backwards), _other_lists(backwards), {'values': figures(values)})


FactFunction = Callable[[Any, np.random.Generator], 'Facts | None']
SHORT_KINDS: dict[str, FactFunction] = {
    'which': _which,
    'count': _count,
    'where': _where,
    'colour': _colour,
    'value': _value,
    'read': _read,
    'sum': _sum,
    'compare': _compare,
    'relation': _relation,
    'presence': _presence,
    'largest': _largest,
}
LONG_KINDS: dict[str, FactFunction] = {
    'describe': _describe,
    'ground': _ground,
}  # no short answer, no options
PAIR_KINDS: dict[str, FactFunction] = {
    'pair_more': _pair_more,
    'pair_common': _pair_common,
    'pair_total': _pair_total,
    'pair_sum': _pair_sum,
}
VIDEO_KINDS: dict[str, FactFunction] = {
    'video_value': _video_value,
    'video_direction': _video_direction,
    'video_colour': _video_colour,
    'video_count': _video_count,
    'video_end': _video_end,
}
TEXT_KINDS: dict[str, FactFunction] = {
    'text_add': _text_add,
    'text_sort': _text_sort,
    'text_largest': _text_largest,
    'text_reverse': _text_reverse,
}
_FACTS = SHORT_KINDS | LONG_KINDS | PAIR_KINDS | VIDEO_KINDS | TEXT_KINDS


def ask(kind: str, subject: object, rng: np.random.Generator, language: str) -> Question | None:
    """Ask one question, or return None when the subject does not allow it (the sum of one digit, say).

    Args:
        kind: A key of ``PHRASES``.
        subject: The scene, pair of scenes, video or list of numbers that the kind is about.
        rng: Picks what is asked about and the wording.
        language: ``en`` or ``zh``.
    """
    facts = _FACTS[kind](subject, rng)
    if facts is None:
        return None
    phrase = PHRASES[kind][language]
    words = {slot: getattr(term, language) for slot, term in {'answer': facts.answer, **facts.slots}.items()}
    reply = phrase.reply.format(**words)
    # Different facts may be worded alike, and none may be the right answer.
    wrong = dict.fromkeys(getattr(term, language) for term in facts.wrong)
    wrong.pop(words['answer'], None)
    text = pick(phrase.ask, rng).format(**words)
    # A slot in small letters may begin the reply; signs without capitals stay.
    return Question(kind, text, words['answer'], reply[0].upper() + reply[1:], tuple(wrong))


def ask_all(kinds: Sequence[str], subject: object, rng: np.random.Generator, language: str) -> list[Question]:
    """Ask one question of each kind that the subject allows."""
    questions = [ask(kind, subject, rng, language) for kind in kinds]
    return [question for question in questions if question is not None]


def options_of(question: Question, rng: np.random.Generator, most: int = 4) -> tuple[list[str], str]:
    """Turn a question into multiple choice.

    Args:
        question: One with at least one wrong answer.
        rng: Picks the wrong answers and the order.
        most: Largest number of options.

    Returns:
        The options and the letter of the right one.
    """
    options = [question.answer, *rng.permutation(question.wrong)[: most - 1].tolist()]
    order = rng.permutation(len(options))
    # Option 0 is right; the place it is moved to is its letter.
    return [options[i] for i in order], 'ABCDEFGH'[int(np.flatnonzero(order == 0)[0])]


def turn(question: Question, rng: np.random.Generator, language: str) -> tuple[str, str]:
    """Return one (human, gpt) exchange: a full sentence, a short answer, or multiple choice, as evaluations ask."""
    style = rng.choice(['sentence', 'short', 'choice'], p=[0.5, 0.35, 0.15])
    if style == 'sentence' or question.kind in LONG_KINDS:
        return question.text, question.reply
    if style == 'short':
        return f'{question.text} {SHORT_PROMPT[language]}', question.answer
    options, letter = options_of(question, rng)
    lines = [f'{mark}. {option}' for mark, option in zip('ABCDEFGH', options)]
    return '\n'.join([question.text, *lines, CHOICE_PROMPT[language]]), letter


def scaled_box(digit: SceneDigit, scene: Scene) -> tuple[int, int, int, int]:
    """Return a digit's box (x1, y1, x2, y2) in whole thousandths of the picture's width and height."""
    x1, y1, x2, y2 = digit.box
    across, down = BOX_SCALE / scene.width, BOX_SCALE / scene.height
    return round(x1 * across), round(y1 * down), round(x2 * across), round(y2 * down)


def _colour_term(digit: SceneDigit) -> Term:
    return Term(digit.colour.en, digit.colour.zh)


def _other_values(value: int) -> list[Term]:
    return [number(other) for other in range(10) if other != value]


def _other_lists(values: Sequence[int]) -> list[Term]:
    """Lists that a careless reader might give: one digit off, one missing, reversed."""
    # Modulo 10: a wrong digit is a digit still.
    off = [*values[:-1], (values[-1] + 1) % 10]
    longer = [*values, (values[-1] + 3) % 10]
    return [
        figures(off),
        figures(longer),
        figures([(values[0] + 5) % 10, *values[1:]]),
        figures(values[::-1]),
    ]


def _addition(values: Sequence[int]) -> Facts:
    total, sign = sum(values), ' + '.join(map(str, values))
    # Off by a little, or by a carry.
    wrong = [number(total + step) for step in (-2, -1, 1, 2, 10) if total + step >= 0]
    return Facts(number(total), wrong, {'addition': Term(sign, sign)})


def _first_or_second(scores: Sequence[int], shown: Sequence[Term]) -> Facts:
    best = scores[1] > scores[0]  # callers leave draws out
    slots = {'first': shown[0], 'second': shown[1]}
    return Facts((FIRST, SECOND)[best], [(SECOND, FIRST)[best]], slots)
