"""Whether a value fits an annotation, with the words to say why not.

Configs are a little laxer than Python types and much stricter than conversion: a list may stand for a tuple, an int
for a float and a ``dict(type=...)`` for the object it will build, but text never for a number nor ``True`` for 1.
pydantic judges plain types and their ``Annotated`` limits; this module adds the config's own rules.
"""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from internvl_mm.utils.errors import did_you_mean
from internvl_mm.utils.paths import MustExist

_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a config.

    Attributes:
        setting: Dotted path of the setting.
        text: What is wrong and what is allowed.
        missing_path: Whether it is a file or folder that does not exist.
    """

    setting: str
    text: str
    missing_path: bool = False

    def __str__(self) -> str:
        return f'{self.setting}: {self.text}' if self.setting else self.text


def is_part(value: Any) -> bool:
    """Whether a value describes something to build: ``dict(type=..., ...)``."""
    return isinstance(value, dict) and 'type' in value


def value_problems(value: Any, annotation: Any, setting: str) -> list[Problem]:
    """Compare a value of a config with the annotation of the argument it is for.

    Args:
        value: Plain value, class, function or (nested) dict; imports are resolved.
        annotation: As ``typing.get_type_hints(..., include_extras=True)`` gives it.
        setting: Dotted path of the value, for the messages.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (Any, object, inspect.Parameter.empty) or isinstance(annotation, typing.TypeVar):
        return []
    if origin is typing.Annotated:
        return _annotated_problems(value, annotation, setting)
    if origin in (typing.Union, types.UnionType):
        return _union_problems(value, annotation, setting)
    if origin is typing.Literal:
        return [] if _is_one_of(value, arguments) else [_mismatch(value, annotation, setting)]
    if is_part(value):
        return _part_problems(value, origin or annotation, setting)  # what it builds has to fit, not the dict
    if (origin or annotation) in _SEQUENCES and not isinstance(value, str):
        return _sequence_problems(value, annotation, setting)
    if (origin or annotation) in _MAPPINGS or _is_dict_type(annotation):
        if not isinstance(value, dict):
            return [_mismatch(value, annotation, setting)]
        # dict[str, int]: only values are compared, names are text in every config.
        inner = arguments[1] if len(arguments) == 2 else Any
        return [
            problem
            for key, item in value.items()
            for problem in value_problems(item, inner, f'{setting}.{key}')
        ]
    # Dataset[int], Callable[[int], int]: what is inside the brackets cannot be seen from a value
    plain = origin if inspect.isclass(origin) and origin is not type else annotation
    return [] if _plain_fits(value, plain) else [_mismatch(value, annotation, setting)]


def _annotated_problems(value: Any, annotation: Any, setting: str) -> list[Problem]:
    inner, *notes = typing.get_args(annotation)
    problems = value_problems(value, inner, setting)
    for note in notes:
        if isinstance(note, MustExist) and not problems:
            problems = _path_problems(value, note.kind, setting)
    if (
        problems
        or any(isinstance(note, MustExist) for note in notes)
        or isinstance(value, (list, tuple, dict))
    ):
        return problems
    # What is left are limits of plain values, which pydantic knows.
    try:
        _adapter(annotation).validate_python(value)
    except ValidationError as error:
        return [Problem(setting, f'{value!r} is out of bounds: {error.errors()[0]["msg"]}')]
    return []


def _union_problems(value: Any, annotation: Any, setting: str) -> list[Problem]:
    wanted = typing.get_args(annotation)
    takes_config = any((typing.get_origin(branch) or branch) is dict for branch in wanted)
    # An object or its config is wanted, and a config without a type builds nothing.
    if isinstance(value, dict) and not is_part(value) and takes_config and any(map(_is_built, wanted)):
        return [Problem(setting, "no 'type' in it: write dict(type=<class>, ...)")]
    branches = [value_problems(value, branch, setting) for branch in wanted]
    if not all(branches):
        return []
    # a branch that complains about an inner value or a missing file was the one meant
    for problems in branches:
        if any(problem.setting != setting or problem.missing_path for problem in problems):
            return problems
    return [_mismatch(value, annotation, setting)]


def _part_problems(value: dict, wanted: Any, setting: str) -> list[Problem]:
    """A dict that will be built: its class must be what is wanted; a function's result cannot be known."""
    built = value['type']
    if (
        wanted in _MAPPINGS
        or _is_dict_type(wanted)
        or wanted is collections.abc.Callable
        or not inspect.isclass(wanted)
    ):
        return []
    if not inspect.isclass(built):
        # Functions are there to build parts: where a number or a text is wanted, one is a mistake.
        builds_plain = wanted in (int, float, str, bool, type(None), list, tuple)
        return [Problem(setting, f'{describe(wanted)} is needed, a part is given')] if builds_plain else []
    # Whether a class follows a protocol, its bases do not tell.
    if issubclass(built, wanted) or getattr(wanted, '_is_protocol', False):
        return []
    return [Problem(setting, f'{describe(wanted)} is needed, dict(type={built.__name__}) is given')]


def _sequence_problems(value: Any, annotation: Any, setting: str) -> list[Problem]:
    origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    # A range or a generator can be gone through once, but has no places to look up.
    iterable_only = origin in (collections.abc.Iterable, collections.abc.Collection)
    if not isinstance(value, (list, tuple)):
        fits = iterable_only and isinstance(value, collections.abc.Iterable)
        return [] if fits else [_mismatch(value, annotation, setting)]
    # tuple[int, int] has a length; tuple[int, ...] and lists have any.
    if origin is tuple and arguments and Ellipsis not in arguments:
        # Python 3.10 gives tuple[()] an argument, ().
        expected = [] if arguments == ((),) else list(arguments)
        if len(value) != len(expected):
            return [Problem(setting, f'{len(expected)} values are needed, {len(value)} are given: {value!r}')]
    else:
        expected = [arguments[0] if arguments else Any] * len(value)
    pairs = enumerate(zip(value, expected))
    return [p for index, (item, inner) in pairs for p in value_problems(item, inner, f'{setting}.{index}')]


def _path_problems(value: Any, kind: str, setting: str) -> list[Problem]:
    path = Path(value).expanduser()
    if not path.exists():
        # A misspelt file most often has its right name next to it.
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        looked = '' if path.is_absolute() else f' (looked in {Path.cwd()})'
        hint = did_you_mean(path.name, siblings)
        return [Problem(setting, f'{value} does not exist{looked}.{hint}', missing_path=True)]
    if kind == 'file' and not path.is_file():
        return [Problem(setting, f'{value} is a folder, a file is needed', missing_path=True)]
    if kind == 'folder' and not path.is_dir():
        return [Problem(setting, f'{value} is a file, a folder is needed', missing_path=True)]
    return []


def _is_one_of(value: Any, allowed: tuple) -> bool:
    # True == 1 in Python, but not in a config
    return any(type(value) is type(word) and value == word for word in allowed)


def _is_built(annotation: Any) -> bool:
    """Whether an annotation means an object a config can only describe: beside it, ``dict`` means its config."""
    kind = typing.get_origin(annotation) or annotation
    plain = inspect.isclass(kind) and (kind.__module__ == 'builtins' or issubclass(kind, dict))
    return inspect.isclass(kind) and not plain and kind not in (*_SEQUENCES, *_MAPPINGS)


def _is_dict_type(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, dict)


@cache
def _adapter(annotation: Any) -> TypeAdapter | None:
    try:
        # strict: pydantic would otherwise read '3' as 3 and 1 as True.
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True, strict=True))
    except PydanticSchemaGenerationError:
        return None
    except PydanticUserError:  # dataclasses and typed dicts bring their own settings
        return TypeAdapter(annotation)


def _plain_fits(value: Any, annotation: Any) -> bool:
    if annotation is collections.abc.Callable:
        return callable(value)
    adapter = _adapter(annotation)
    if adapter is None:  # not a type in pydantic's eyes: nothing can be said
        return True
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def _mismatch(value: Any, annotation: Any, setting: str) -> Problem:
    words = [word for word in _literals(annotation) if isinstance(word, str)]
    hint = did_you_mean(value, words) if isinstance(value, str) else ''
    shown = repr(value) if not callable(value) else getattr(value, '__name__', repr(value))
    # Characters; a long list would bury the message.
    shown = shown if len(shown) <= 80 else shown[:77] + '...'
    given = type(value).__name__ if value is not None else ''
    suffix = f' ({given})' if given and not callable(value) else ''
    text = f'{shown}{suffix} is not allowed; allowed: {describe(annotation)}.{hint}'
    return Problem(setting, text)


def _literals(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is typing.Literal:
        return list(typing.get_args(annotation))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return [word for branch in typing.get_args(annotation) for word in _literals(branch)]
    return []


def describe(annotation: Any) -> str:
    """An annotation in words: ``'all', int or None``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return 'None'
    if origin is typing.Annotated:
        note = next((note for note in arguments[1:] if isinstance(note, MustExist)), None)
        return (
            describe(arguments[0])
            if note is None
            else f'existing {"path" if note.kind == "any" else note.kind}'
        )
    if origin in (typing.Union, types.UnionType):
        words = [describe(branch) for branch in arguments]
        return ', '.join(words[:-1]) + ' or ' + words[-1]
    if origin is typing.Literal:
        return ', '.join(repr(word) for word in arguments)
    if origin is tuple and arguments and Ellipsis not in arguments:
        return f'({", ".join(describe(item) for item in arguments)})'
    if origin in _SEQUENCES:
        return f'list of {describe(arguments[0])}' if arguments else 'list'
    if origin in _MAPPINGS:
        return f'dict of {describe(arguments[1])}' if arguments else 'dict'
    if collections.abc.Callable in (origin, annotation):
        return 'a function or dict(type=<class>, ...)'
    if inspect.isclass(annotation) and annotation.__module__ != 'builtins':
        return f'dict(type=<a {annotation.__name__}>, ...)'
    return getattr(origin or annotation, '__name__', str(annotation))
