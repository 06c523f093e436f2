"""Settings of ``generate`` that callers of a chat give, checked before the model reads a prompt."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from transformers import GenerationConfig, GenerationMixin

from internvl_mm.utils.errors import ConfigError, did_you_mean

# What generate takes without saying so in its signature, and what our models' own generate adds.
_UNNAMED = frozenset({'tokenizer', 'assistant_tokenizer', 'visual_features'})
# Given by the chat itself: the prompt.
_OURS = frozenset({'self', 'inputs', 'kwargs'})

_WHOLE, _NUMBER = (int, np.integer), (int, float, np.integer, np.floating)
_Rule = tuple[Callable[[Any], bool], str]
_COUNT: _Rule = (lambda value: isinstance(value, _WHOLE) and value >= 1, 'a whole number from 1')
_FROM_ZERO: _Rule = (lambda value: isinstance(value, _WHOLE) and value >= 0, 'a whole number from 0')
# generate takes no 2 for 2.0; of 1, which changes nothing, it does not look at the type.
_POSITIVE: _Rule = (
    lambda value: isinstance(value, float) and value > 0 or value == 1,
    'a float above 0, such as 2.0',
)
_SHARE: _Rule = (lambda value: isinstance(value, _NUMBER) and 0 <= value <= 1, 'a number from 0 to 1')

_RULES: dict[str, _Rule] = dict(
    max_new_tokens=_COUNT,
    max_length=_COUNT,
    num_beams=_COUNT,
    num_return_sequences=_COUNT,
    min_new_tokens=_FROM_ZERO,
    no_repeat_ngram_size=_FROM_ZERO,
    repetition_penalty=_POSITIVE,
    return_dict_in_generate=(
        lambda value: value is False,
        'False: a chat answers in text; model.generate gives scores and the rest',
    ),
)
# Elsewhere None asks for the model's default; generate takes it literally here, and fails in comparisons.
_NEVER_NONE = ('num_beams', 'num_return_sequences')
# Read when answers are sampled only: temperature=0 beside do_sample=False is a common way to say greedy.
_SAMPLING: dict[str, _Rule] = dict(temperature=_POSITIVE, top_k=_FROM_ZERO, top_p=_SHARE, min_p=_SHARE)


@functools.cache
def known_settings() -> frozenset[str]:
    """Names that ``generate`` takes besides the prompt."""
    named = inspect.signature(GenerationMixin.generate).parameters.keys() - _OURS
    return frozenset({name for name in vars(GenerationConfig()) if name[0] != '_'} | named | _UNNAMED)


def check_generation(settings: Mapping[str, Any]) -> None:
    """Refuse settings that ``generate`` would not know, and values it would fail on in words of its own.

    Args:
        settings: Of transformers' ``generate``.

    Raises:
        ConfigError: Names the first that is wrong.
    """
    known = known_settings()
    for name in settings:
        if name not in known:
            raise ConfigError(
                f"generation setting '{name}' is unknown: the settings are those of transformers' GenerationConfig and "
                f'generate, such as max_new_tokens, do_sample and num_beams.{did_you_mean(name, known)}'
            )
    rules = {**_RULES, **(_SAMPLING if settings.get('do_sample') else {})}
    for name, (possible, allowed) in rules.items():
        if name not in settings or (settings[name] is None and name not in _NEVER_NONE):
            continue
        if not possible(value := settings[name]):
            raise ConfigError(f'generation setting {name}={value!r} is not possible: it must be {allowed}')
