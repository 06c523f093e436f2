"""Errors a user can cause. Doors print them and exit with status 2; they never show a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user gave; the message names the setting, the value, what is allowed and the way out."""


class ConfigError(UserError):
    """A config that cannot be run: unknown key, wrong type, unknown part, impossible combination."""


class DataError(UserError):
    """Data that cannot be used: missing, unreadable, out of range, inconsistent with the model.

    Attributes:
        located: The message says which sample it is about.
    """

    located = False


class CheckpointError(UserError):
    """Weights or training state that cannot be loaded or written."""


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest allowed word, or an empty string when none is close.

    Args:
        word: What the user wrote.
        allowed: Words that would have been accepted.
    """
    # 0.6 is difflib's default: one or two wrong letters in a usual name.
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ''
