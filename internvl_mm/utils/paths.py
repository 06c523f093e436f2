"""Path types for constructor annotations: the config checker tests that they exist before any work starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class MustExist:
    """Marks a path argument that has to exist when a config is checked. ``kind`` is 'file', 'folder' or 'any'."""

    kind: str


# Plain text to Python and to type checkers: the mark is read by the config checker alone.
ExistingFile = Annotated[str, MustExist('file')]
ExistingFolder = Annotated[str, MustExist('folder')]
ExistingPath = Annotated[str, MustExist('any')]
