"""Samples that cross rooms: what a dataset gives, what a task fills in, what a metric eats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor


class ImageSample(BaseDataElement):
    """One image with its labels and, after prediction, its scores.

    Attributes:
        dataset: Name of the data set (metainfo).
        index: Position in the data set (metainfo).
        path: File the image came from, ``None`` if it has none (metainfo).
        gt_label: Class index, ``LongTensor[1]``.
        gt_labels: Every accepted class index, ``LongTensor[K]``, possibly empty (ImageNet-ReaL).
        gt_score: Soft target over C classes, ``Tensor[C]`` (Mixup, CutMix, smoothing).
        pred_logits: Scores the task predicts, ``Tensor[C]`` in fp32.
    """

    @classmethod
    def labelled(cls, label: int, *, dataset: str, index: int, path: str | None = None) -> ImageSample:
        """Make a sample with one class label."""
        sample = cls(metainfo=dict(dataset=dataset, index=index, path=path))
        sample.gt_label = torch.tensor([label], dtype=torch.long)
        return sample

    def __getstate__(self) -> dict[str, Any]:
        """Send labels of the CPU as arrays: a tensor would take a file descriptor and more time than its few bytes."""
        return {
            name: _Array(value.numpy()) if _is_plain(value) else value for name, value in vars(self).items()
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Undo :meth:`__getstate__`."""
        for name, value in state.items():
            self.__dict__[name] = torch.from_numpy(value.array) if isinstance(value, _Array) else value


@dataclass(frozen=True)
class _Array:
    array: np.ndarray


def _is_plain(value: Any) -> bool:
    return (
        # Not isinstance: a subclass would come back as a plain tensor.
        type(value) is Tensor
        and value.device.type == 'cpu'
        and not value.requires_grad  # numpy() refuses it
        and value.dtype != torch.bfloat16  # unknown to NumPy
    )


def stack_field(samples: list[ImageSample], field: str) -> Tensor:
    """Stack one data field of many samples along a new first dimension."""
    return torch.stack([getattr(sample, field) for sample in samples])


def describe(samples: Sequence[Any]) -> list[dict[str, Any]]:
    """Data set, index and file of each sample of any type, ready for JSON; ``None`` for what it does not know."""
    return [{key: getattr(sample, key, None) for key in ('dataset', 'index', 'path')} for sample in samples]


def name_samples(samples: Sequence[Any], limit: int) -> str:
    """Samples as an error names them: ``digits[3] (3.png), digits[7] (no file) and 2 more``."""
    names = [
        f'{facts["dataset"]}[{facts["index"]}] ({facts["path"] or "no file"})'
        for facts in describe(samples[:limit])
    ]
    return ', '.join(names) + (f' and {len(samples) - limit} more' if len(samples) > limit else '')


@dataclass(frozen=True)
class BadSample:
    """Why one sample could not be read. Travels with the batch to the ledger of the run."""

    dataset: str
    index: int
    path: str | None
    reason: str

    def as_dict(self) -> dict[str, str | int | None]:
        """The ledger's line."""
        return asdict(self)
