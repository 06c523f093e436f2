"""Conversations on their way from a file to a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

IGNORE = -100  # label of tokens that are not learned; what torch's cross entropy leaves out


@dataclass(frozen=True)
class EncodedChat:
    """Token ids of one conversation.

    Attributes:
        input_ids: int64 ``[L]``.
        labels: int64 ``[L]``, the id where the token is learned, else ``IGNORE``.
    """

    input_ids: np.ndarray
    labels: np.ndarray

    @property
    def num_labels(self) -> int:
        """Tokens to learn."""
        return int((self.labels != IGNORE).sum())


@dataclass(frozen=True)
class ChatRecord:
    """One sample as its file describes it, checked but not yet read.

    Attributes:
        turns: Question and answer of every exchange.
        images: Paths of the images.
        sizes: (width, height) of each image in pixels, where the file says so.
        video: A video file, or a folder of frames (with a final slash).
        clip: Start and end within the video, in seconds.
        system: System message of this sample alone.
        length: Number of tokens, where the file says so.
    """

    turns: tuple[tuple[str, str], ...]
    images: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] | None = None
    video: str | None = None
    clip: tuple[float, float] | None = None
    system: str | None = None
    length: int | None = None


@dataclass(frozen=True)
class ChatSample:
    """One conversation, ready to be put into a batch.

    Attributes:
        tiles: uint8 ``[T, 3, S, S]``; ``T`` is 0 for text alone.
        num_tiles: Tiles of each image, in the order of their blocks in ``input_ids``; their sum is ``T``.
        input_ids: int64 ``[L]``.
        labels: int64 ``[L]``.
        dataset: Name of the data set.
        index: Position in it.
        path: What it was read from, ``None`` if it has no file.
    """

    tiles: Tensor
    num_tiles: tuple[int, ...]
    input_ids: Tensor
    labels: Tensor
    dataset: str = ''
    index: int = 0
    path: str | None = None

    def __len__(self) -> int:
        return len(self.input_ids)
