"""Values against annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import torch
from pydantic import Field
from torch import nn

from internvl_mm.engine.config.values import describe, value_problems
from internvl_mm.utils.paths import ExistingFile, ExistingFolder, ExistingPath

PART = dict(type=nn.Linear, in_features=1)
Frozen = Literal['all'] | int | None


@dataclass
class Limits:
    low: int
    high: int = 3


@pytest.mark.parametrize(
    ('value', 'annotation'),
    [
        (1, int),
        (1, float),
        ([1, 2], tuple[int, ...]),
        ((1, 2), list[int]),
        ([0.9, 1], tuple[float, float]),
        ('all', Frozen),
        (None, Frozen),
        (3, Frozen),
        (PART, nn.Module),
        (PART, nn.Module | dict | None),
        ([PART, PART], Sequence[nn.Module]),
        ({'a': PART}, dict[str, nn.Module]),
        (dict(type=torch.zeros), nn.Module),  # what a function gives is not known
        (dict(low=1), Limits),
        (dict(a=1), Mapping[str, int]),
        (dict(a=1), bool | dict),
        (dict(a=1), dict[str, Any] | None),
        (PART, Callable[[int], int]),
        (len, Callable),
        (nn.ReLU, type[nn.Module]),
        (torch.float16, torch.dtype),
        ('anything', Any),
        (3, Annotated[int, Field(gt=0)]),
        ([], tuple[()]),
    ],
)
def test_fits(value: Any, annotation: Any) -> None:
    assert value_problems(value, annotation, 'x') == []


@pytest.mark.parametrize(
    ('value', 'annotation', 'message'),
    [
        ('3', int, "x: '3' (str) is not allowed; allowed: int."),
        (True, int, 'x: True (bool) is not allowed; allowed: int.'),
        (1, bool, 'allowed: bool'),
        (1.5, int, 'allowed: int'),
        ('0.1', float, 'allowed: float'),
        (3, str, 'allowed: str'),
        (None, int, 'x: None is not allowed'),
        ('al', Frozen, "allowed: 'all', int or None. Did you mean 'all'?"),
        (True, Literal[1, 2], 'allowed: 1, 2'),
        ([1, 'b'], list[int], "x.1: 'b' (str) is not allowed"),
        ('ab', list[str], 'allowed: list of str'),
        ([0.1], tuple[float, float], 'x: 2 values are needed, 1 are given'),
        ({'a': 'b'}, dict[str, int], "x.a: 'b' (str)"),
        ([1], dict[str, int], 'allowed: dict of int'),
        (3, nn.Module, 'allowed: dict(type=<a Module>, ...)'),
        (dict(a=1), nn.Module | dict | None, "no 'type' in it"),
        ([dict(a=1)], list[Callable[[int], int] | dict[str, Any]], "x.0: no 'type' in it"),
        (PART, nn.ReLU, 'dict(type=Linear) is given'),
        (PART, int, 'int is needed'),
        (dict(type=torch.zeros), int, 'int is needed, a part is given'),
        (dict(low='a'), Limits, 'Limits'),
        (3, Callable[[int], int], 'allowed: a function or dict(type=<class>, ...)'),
        (-1, Annotated[int, Field(gt=0)], 'x: -1 is out of bounds: Input should be greater than 0'),
        ([1, [2, 'c']], list[int | list[int]], "x.1.1: 'c' (str)"),
    ],
)
def test_does_not_fit(value: Any, annotation: Any, message: str) -> None:
    problems = value_problems(value, annotation, 'x')
    assert len(problems) == 1
    assert message in str(problems[0])


def test_paths(tmp_path: Path) -> None:
    file, folder = tmp_path / 'labels.txt', str(tmp_path)
    file.touch()
    assert not value_problems(str(file), ExistingFile, 'x')
    assert not value_problems(folder, ExistingFolder | None, 'x')
    assert not value_problems(str(file), ExistingPath, 'x')
    missing = value_problems(f'{folder}/lables.txt', ExistingPath | None, 'x')
    assert missing[0].missing_path
    assert "lables.txt does not exist. Did you mean 'labels.txt'?" in missing[0].text
    assert 'looked in' in value_problems('nowhere.txt', ExistingFile, 'x')[0].text
    assert 'is a folder, a file is needed' in value_problems(folder, ExistingFile, 'x')[0].text
    assert 'is a file, a folder is needed' in value_problems(str(file), ExistingFolder, 'x')[0].text
    assert not value_problems(3, ExistingFile, 'x')[0].missing_path


@pytest.mark.parametrize(
    ('annotation', 'words'),
    [
        (Frozen, "'all', int or None"),
        (tuple[float, float] | None, '(float, float) or None'),
        (list, 'list'),
        (tuple[int, ...], 'list of int'),
        (dict[str, int], 'dict of int'),
        (ExistingFile, 'existing file'),
        (ExistingPath, 'existing path'),
        (Annotated[int, Field(gt=0)], 'int'),
    ],
)
def test_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words
