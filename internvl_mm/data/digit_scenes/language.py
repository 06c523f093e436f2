"""English and Chinese words for what is in a scene: terms, places, lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from internvl_mm.data.digit_scenes.scene import Scene, SceneDigit
from internvl_mm.utils.errors import ConfigError, did_you_mean

LANGUAGES = ('en', 'zh')


def check_languages(codes: Sequence[str]) -> None:
    """Refuse languages that scenes are not described in.

    Raises:
        ConfigError: There is one, or none at all.
    """
    if not codes:
        raise ConfigError(f'languages=(): name at least one of {" and ".join(LANGUAGES)}')
    for code in codes:
        if code not in LANGUAGES:
            raise ConfigError(
                f"there are no texts in '{code}', only in {' and '.join(LANGUAGES)}.{did_you_mean(code, LANGUAGES)}"
            )


class Term(NamedTuple):
    """The same thing said in both languages; ``getattr(term, language)`` picks one."""

    en: str
    zh: str


YES, NO = Term('yes', '是'), Term('no', '否')
FIRST, SECOND = Term('the first', '第一张'), Term('the second', '第二张')
NONE = Term('none', '没有')
DIRECTION_TERMS = {
    'right': Term('right', '右'),
    'left': Term('left', '左'),
    'up': Term('up', '上'),
    'down': Term('down', '下'),
}
# Row by row: the centre of a digit's box lies in one cell of a 3×3 grid over the picture.
PLACES = (
    (Term('top left', '左上角'), Term('top', '上方'), Term('top right', '右上角')),
    (Term('left', '左侧'), Term('centre', '中间'), Term('right', '右侧')),
    (Term('bottom left', '左下角'), Term('bottom', '下方'), Term('bottom right', '右下角')),
)
COUNT_WORDS = ('zero', 'one', 'two', 'three', 'four', 'five')
COUNT_WORDS_ZH = ('零', '一', '两', '三', '四', '五')  # 两, not 二, before a measure word


def number(value: int) -> Term:
    """A number in figures."""
    return Term(str(value), str(value))


def yes_no(truth: bool) -> Term:
    """Yes or no."""
    return YES if truth else NO


def figures(values: Sequence[int]) -> Term:
    """Numbers in figures with commas, in the given order."""
    return Term(', '.join(map(str, values)), '、'.join(map(str, values)))


def place(digit: SceneDigit, scene: Scene) -> Term:
    """Where the centre of a digit's box lies on a 3×3 grid."""
    x, y = digit.centre
    # min: a centre on the far border belongs to the last cell.
    return PLACES[min(2, int(3 * y / scene.height))][min(2, int(3 * x / scene.width))]


def name(digit: SceneDigit) -> Term:
    """Colour and value, such as ``red 3``: unique in a scene, because colours are."""
    return Term(f'{digit.colour.en} {digit.value}', f'{digit.colour.zh}的{digit.value}')


def one(term: Term) -> Term:
    """A name with its indefinite article or measure word."""
    article = 'an' if term.en[0] in 'aeiou' else 'a'  # an orange 3
    return Term(f'{article} {term.en}', f'一个{term.zh}')


def count_of_digits(count: int) -> Term:
    """A number of digits in words."""
    return Term(f'{COUNT_WORDS[count]} digit{"" if count == 1 else "s"}', f'{COUNT_WORDS_ZH[count]}个数字')


def enumeration(terms: Sequence[Term]) -> Term:
    """A list as it is said: ``a, b and c``."""
    if len(terms) == 1:
        return Term(*terms[0])
    return Term(
        f'{", ".join(term.en for term in terms[:-1])} and {terms[-1].en}',
        f'{"、".join(term.zh for term in terms[:-1])}和{terms[-1].zh}',
    )
