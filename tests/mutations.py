"""Random mistakes in configs: whatever a user mistypes, the checker says so and nothing else is raised."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from internvl_mm.engine.config import check_config
from internvl_mm.utils.errors import ConfigError

# Whose keys are names the user chooses: a misspelt one is just another name.
FREE = (
    'benchmarks',
    'default_hooks',
    'optim_wrapper.paramwise_cfg.custom_keys',
    'model.class_prompts',
    'model.tokenizer.prompts',
)


@dataclass
class Mistake:
    """One change of a config: a key misspelt, a value of another type, an argument dropped."""

    kind: str
    setting: str
    settings: dict[str, Any]


def mutations(settings: dict[str, Any], rng: random.Random, count: int) -> Iterator[Mistake]:
    """Make ``count`` mistakes, each in a copy of plain settings."""
    places = list(_places(settings, ()))
    for _ in range(count):
        *owners, key = rng.choice(places)
        changed = copy.deepcopy(settings)
        owner = changed
        for name in owners:
            owner = owner[name]
        kind = rng.choice(['rename', 'retype', 'drop'])
        value = owner.pop(key)
        if kind == 'rename':
            position = rng.randrange(
                1, len(key) + 1
            )  # a leading underscore or letter would be caught more easily
            owner[f'{key[:position]}q{key[position:]}'] = value
        elif kind == 'retype':
            owner[key] = 'q' if isinstance(value, (int, float)) else 12.5
        yield Mistake(kind, '.'.join(map(str, (*owners, key))), changed)


def _places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Paths of all keys of all dicts."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from _places(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _places(item, (*path, index))


def assert_told(mistake: Mistake) -> None:
    """Check a config with a mistake: only :class:`ConfigError` may come of it, and a misspelt key is never accepted."""
    try:
        check_config(Config(mistake.settings), purpose='read')
    except ConfigError:
        return
    assert mistake.kind != 'rename' or mistake.setting.rpartition('.')[0] in FREE, mistake.setting
