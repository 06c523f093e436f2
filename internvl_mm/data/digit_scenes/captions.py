"""Five English and five Chinese captions per scene, all true of it."""

from __future__ import annotations

from internvl_mm.data.digit_scenes.language import (
    LANGUAGES,
    Term,
    count_of_digits,
    enumeration,
    name,
    number,
    one,
    place,
)
from internvl_mm.data.digit_scenes.scene import Scene

# One order for both languages: caption k of a scene says the same in each.
CAPTIONS = {
    'en': (
        '{listing}.',
        'The picture shows {count}: {values}.',
        '{sentences}.',
        'Handwriting that reads {values} from left to right, written in {colours}.',
        'A picture of {count} in {colours}, namely {names}.',
    ),
    'zh': (
        '{listing}。',
        '图片中有{count}：{values}。',
        '{sentences}。',
        '从左到右写着{values}，颜色依次是{colours}。',
        '一张写有{count}的图片，颜色有{colours}，分别是{names}。',
    ),
}


def describe(scene: Scene, language: str) -> list[str]:
    """Return five captions of a scene.

    Args:
        scene: What to describe; digits are named from left to right.
        language: ``en`` or ``zh``.
    """
    names = [name(digit) for digit in scene.digits]
    where = [place(digit, scene) for digit in scene.digits]
    slots = {
        'listing': enumeration([one(term) for term in names]),  # a red 3 and an orange 7
        'count': count_of_digits(len(scene.digits)),  # two digits
        'values': enumeration([number(digit.value) for digit in scene.digits]),  # 3 and 7
        'colours': enumeration([Term(digit.colour.en, digit.colour.zh) for digit in scene.digits]),
        'names': enumeration([Term(f'the {term.en}', term.zh) for term in names]),  # the red 3 and …
        'sentences': Term(
            '; '.join(f'the {term.en} is at the {spot.en}' for term, spot in zip(names, where)),
            '；'.join(f'{term.zh}在{spot.zh}' for term, spot in zip(names, where)),
        ),
    }
    words = {slot: getattr(term, language) for slot, term in slots.items()}
    captions = [template.format(**words) for template in CAPTIONS[language]]
    # Captions may begin with a slot, whose words are lower case; Chinese has no case.
    return [caption[0].upper() + caption[1:] for caption in captions]


def all_captions(scene: Scene) -> dict[str, list[str]]:
    """Return the captions of a scene per language."""
    return {language: describe(scene, language) for language in LANGUAGES}
