"""What may be written in a config for a class or function: its arguments, followed through ``**kwargs``."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import operator
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn

EMPTY = inspect.Parameter.empty
# Libraries whose annotations name the usual type of an argument where others work as well, and that read settings out
# of plain dicts, whose keys no signature names.
_CARELESS = ('mmcv', 'mmdet', 'mmseg')
_AROUND_RESIZE = ('RandomResize', 'RandomChoiceResize')


@dataclass(frozen=True)
class Argument:
    """One argument; ``annotation`` and ``default`` are ``EMPTY`` where there is none."""

    annotation: Any = EMPTY
    default: Any = EMPTY


@dataclass
class Signature:
    """What a call accepts.

    Attributes:
        arguments: Every argument that can be given by name.
        required: Those that must be given.
        open: Whether other names go where they cannot be followed.
    """

    arguments: dict[str, Argument] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)
    open: bool = False


# Parsing sources takes milliseconds, and a config names the same classes again and again.
@cache
def signature_of(target: Callable) -> Signature:
    """The signature of a class (its constructor, and its parents' as far as ``**kwargs`` reach) or a function."""
    if inspect.isclass(target):
        constructors = [base.__dict__['__init__'] for base in target.__mro__ if '__init__' in base.__dict__]
        if constructors[0] is not object.__init__:
            return _resizing(target, _follow(constructors))
    signature = Signature()
    signature.open = _add(signature, target, skip=0, taken=set())
    if not inspect.isclass(target):
        # a function named in a config is called later, with more arguments than the config gives
        signature.required.clear()
    return signature


def _resizing(target: Callable, signature: Signature) -> Signature:
    """Transforms of mmcv around another one take its arguments, too: those of the ``Resize`` beside them."""
    if target.__name__ not in _AROUND_RESIZE or target.__module__.partition('.')[0] not in _CARELESS:
        return signature
    inner = signature_of(sys.modules[target.__module__].Resize)
    return Signature({**inner.arguments, **signature.arguments}, signature.required)


def _follow(constructors: list[Callable]) -> Signature:
    """Collect arguments from the most derived constructor towards ``object`` while keywords are passed on."""
    signature = Signature()
    taken: set[str] = set()
    positional = 0
    for constructor in constructors:
        if constructor in (object.__init__, nn.Module.__init__):
            return signature  # these accept nothing and say so with a TypeError
        accepts_more = _add(signature, constructor, skip=1 + positional, taken=taken)
        if not accepts_more:
            return signature
        passed = _passed_on(constructor)
        if passed is None:
            signature.open = True
            return signature
        names, positional = passed
        taken |= names
    return signature


def _add(signature: Signature, function: Callable, *, skip: int, taken: set[str]) -> bool:
    """Add a function's own arguments; return whether it also has ``**kwargs`` (or cannot be read).

    Args:
        signature: Filled in.
        function: Read for its parameters.
        skip: Leading positional parameters the caller fills (``self``, and what a child passes by position).
        taken: Names a child passes by itself.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # written in C, without a signature
        return True
    hints = _hints(function)
    if _is_careless(function):
        hints = {name: _loosened(annotation) for name, annotation in hints.items()}
    filled = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:skip]
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for parameter in parameters:
        name = parameter.name
        if (
            parameter.kind not in by_name
            or parameter in filled
            or name in taken
            or name in signature.arguments
        ):
            continue
        # The most derived constructor comes first, so its annotation counts.
        signature.arguments[name] = Argument(hints.get(name, EMPTY), parameter.default)
        if parameter.default is EMPTY:
            signature.required.add(name)
    return any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)


def words_of(target: Callable) -> frozenset[str] | None:
    """Every word a key in a plain dict given to ``target`` can be, as far as it can be known.

    Returns:
        ``None`` where any key may be right; otherwise all identifiers in the sources of the libraries that read it.
    """
    return _vocabulary() if _is_careless(target) else None


@cache
def _vocabulary() -> frozenset[str]:
    # A misspelt word is hardly ever another one of theirs. Reading 6 MB takes a third of a second, once.
    words: set[str] = set()
    for name in _CARELESS:
        spec = importlib.util.find_spec(name)
        for folder in spec.submodule_search_locations or () if spec else ():
            for file in Path(folder).rglob('*.py'):
                words.update(re.findall(r'[A-Za-z_]\w*', file.read_text('utf-8', errors='ignore')))
    return frozenset(words)


def _is_careless(target: Callable) -> bool:
    return (getattr(target, '__module__', None) or '').partition('.')[0] in _CARELESS


def _loosened(annotation: Any) -> Any:
    """An annotation that also takes any number for ``int``, and one number for a tuple: strides, sizes, scales."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is int:
        return int | float
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, map(_loosened, arguments))
    if origin in (list, tuple) and arguments:
        annotation = origin[tuple(kind if kind is Ellipsis else _loosened(kind) for kind in arguments)]
    return annotation | int | float if tuple in (origin, annotation) else annotation


def _hints(function: Callable) -> dict[str, Any]:
    function = inspect.unwrap(function.__init__ if inspect.isclass(function) else function)
    hints = {}
    for name, annotation in getattr(function, '__annotations__', {}).items():
        # one at a time: some libraries annotate some arguments with names that exist for type checkers only
        alone = SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= typing.get_type_hints(alone, getattr(function, '__globals__', {}), include_extras=True)
        except (NameError, TypeError, AttributeError, SyntaxError):
            continue
    return hints


def _passed_on(constructor: Callable) -> tuple[set[str], int] | None:
    """What a constructor itself hands to its parent's beside ``**kwargs``: names, and a number of positions.

    Returns:
        ``None`` when its keywords do not go to the parent.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(constructor)))
    except TypeError:  # written in C
        return None
    except OSError:  # no source to read: the usual case is that they do
        return set(), 0
    for node in ast.walk(tree):
        if not (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == '__init__'
        ):
            continue
        # Keywords of the caller go on only through `**kwargs`, which has no name here.
        if all(keyword.arg is not None for keyword in node.keywords):
            continue
        names = {keyword.arg for keyword in node.keywords if keyword.arg is not None}
        explicit_self = not isinstance(node.func.value, ast.Call)  # Parent.__init__(self, ...), not super()
        plain = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
        return names, len(plain) - explicit_self
    return None
