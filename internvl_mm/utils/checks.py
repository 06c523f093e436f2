"""Ranges of settings, told in the words of the config before a library fails on them."""

from __future__ import annotations

from typing import Any

from .errors import ConfigError


def check_counts(**settings: Any) -> None:
    """Refuse settings that are not whole numbers from 1.

    Raises:
        ConfigError: Names the first that is not.
    """
    for name, value in settings.items():
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f'{name}={value!r} is not possible: it must be a whole number from 1')


def check_shares(**settings: Any) -> None:
    """Refuse settings that are not numbers from 0 up to, not including, 1.

    Raises:
        ConfigError: Names the first that is not.
    """
    for name, value in settings.items():
        if not isinstance(value, (int, float)) or not 0 <= value < 1:
            raise ConfigError(f'{name}={value!r} is not possible: it must be from 0 up to, not including, 1')
