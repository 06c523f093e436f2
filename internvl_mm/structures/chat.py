"""Conversations on their way from a file to a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from mmengine.structures import BaseDataElement
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
        images: Paths of the images, or the bytes of their files.
        sizes: (width, height) of each image in pixels, where the file says so.
        video: A video file, or a folder of frames (with a final slash).
        clip: Start and end within the video, in seconds.
        system: System message of this sample alone.
        length: Number of tokens, where the file says so.
    """

    turns: tuple[tuple[str, str], ...]
    images: tuple[str | bytes, ...] = ()
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


@dataclass(frozen=True)
class ChatBatch:
    """Conversations side by side: padded to rows of one length, or packed into one row.

    Attributes:
        tiles: uint8 ``[T, 3, S, S]``, those of all samples in order; ``T`` is 0 where all are text.
        num_tiles: int64 ``[N]``, tiles of each sample.
        input_ids: int64 ``[B, L]``; N samples are N rows, or one row when packed.
        labels: int64 ``[B, L]``, ``IGNORE`` where nothing is learned.
        position_ids: int64 ``[B, L]``, from 0 in each sample; 0 in padding.
        sample_ids: int64 ``[B, L]``, which sample of the batch a token belongs to; −1 in padding. Tokens may attend to
            earlier tokens of the same number only. (A mask made of ids ≠ 0 would lose real tokens of that id.)
        cu_seqlens: int32 ``[N + 1]``, where the samples of a packed row begin and the last one ends; padding at the
            end of the row makes one more segment. ``None`` for padded rows.
    """

    tiles: Tensor
    num_tiles: Tensor
    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor
    sample_ids: Tensor
    cu_seqlens: Tensor | None = None

    def __len__(self) -> int:
        return len(self.num_tiles)

    @property
    def attention_mask(self) -> Tensor:
        """Bool ``[B, L]``: everything but padding."""
        return self.sample_ids >= 0

    @property
    def num_tokens(self) -> int:
        """Tokens without padding."""
        return int(self.attention_mask.sum())

    @property
    def label_counts(self) -> Tensor:
        """int64 ``[N]``: learned tokens of each sample, what published losses weigh samples by (before the shift)."""
        # Padding (-1) is nobody's.
        learned = self.sample_ids[(self.labels != IGNORE) & self.attention_mask]
        # With minlength, samples at the end without any label have their 0.
        return torch.bincount(learned, minlength=len(self))

    def part(self, first: int, last: int) -> ChatBatch:
        """Samples ``first`` to ``last`` (not included), as a batch of the same kind."""
        start, end = int(self.num_tiles[:first].sum()), int(self.num_tiles[:last].sum())
        if self.cu_seqlens is None:
            cut, bounds = (slice(first, last), slice(None)), None  # rows
        else:
            # Counted anew from the first sample of the part.
            bounds = self.cu_seqlens[first : last + 1] - self.cu_seqlens[first]
            # columns of the one row
            cut = (slice(None), slice(int(self.cu_seqlens[first]), int(self.cu_seqlens[last])))
        ids = self.sample_ids[cut]
        return ChatBatch(
            tiles=self.tiles[start:end],
            num_tiles=self.num_tiles[first:last],
            input_ids=self.input_ids[cut],
            labels=self.labels[cut],
            position_ids=self.position_ids[cut],
            sample_ids=torch.where(ids < 0, ids, ids - first),  # -1 stays: padding
            cu_seqlens=bounds,
        )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> ChatBatch:
        """The same on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ChatBatch:
        """The same in page-locked memory; loaders with ``pin_memory=True`` call this."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> ChatBatch:
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(value) for name, value in tensors.items() if value is not None})


class QuestionSample(BaseDataElement):
    """A question about pictures with its right answers and, after prediction, the model's.

    Attributes:
        dataset: Name of the data set (metainfo).
        index: Position in the data set (metainfo).
        path: Where it stands, ``None`` if it has no file (metainfo).
        kind: What sort of question it is, for results by sort; ``''`` where the data does not say (metainfo).
        question: The question, as it was asked (metainfo).
        answers: Right answers, each as good as the others (metainfo).
        pred_answer: What the task answers.
    """
