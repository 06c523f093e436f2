"""The task slot: the only place that knows what is learned."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from internvl_mm.registry import MODELS

# A part, its config, or no part: what constructors of tasks take.
Part: TypeAlias = nn.Module | dict | None


def build_part(part: Part) -> nn.Module | None:
    """Build a part given as a config; a module or ``None`` is returned as it is."""
    return MODELS.build(part) if isinstance(part, dict) else part


class BaseTask(BaseModel):
    """Batch to losses or predictions.

    A task wires the parts given to its constructor, holds no layers of its own, and never sees the whole config.

    Attributes:
        autocast_dtype: Compute dtype chosen by the strategy; ``None`` is fp32. Parameters keep their own dtype.
    """

    autocast_dtype: torch.dtype | None = None

    @property
    @abstractmethod
    def width(self) -> int:
        """Width of the widest matrix products; 'auto' precision decides by it on CPUs."""

    @abstractmethod
    def loss(self, inputs: Tensor, data_samples: list[Any]) -> dict[str, Tensor]:
        """Losses of a training batch: entries with 'loss' in their name are summed, the others are logged."""

    @abstractmethod
    def predict(self, inputs: Tensor, data_samples: list[Any]) -> list[Any]:
        """Fill the predictions into the samples of a batch and return them."""

    @abstractmethod
    def extract(self, inputs: Tensor) -> Any:
        """Features of a batch, before the head."""

    def init_structure(self) -> None:
        """What ``init_weights`` does besides giving values, without doing that: nothing, as it stands.

        Strategies that share out weights call it where a model has names and sizes only. A task whose ``init_weights``
        also adds modules, freezes or sets attributes does so here, too.
        """

    def check_data(self, metainfo: dict) -> None:
        """Compare the task with the ``metainfo`` of its training data, before training.

        Raises:
            DataError: They do not fit, for example in the number of classes.
        """

    def halves(self, inputs: Any, data_samples: list[Any]) -> list[tuple[float, dict[str, Any]]] | None:
        """A training batch in two, each with its share (of 1) in the loss of the whole.

        Args:
            inputs: Of :meth:`loss`, after the data preprocessor.
            data_samples: Of :meth:`loss`.

        Returns:
            ``[(share, dict(inputs=..., data_samples=...)), ...]``; ``None`` where the loss is no weighted mean over
            samples, as in contrast, or there is but one sample.
        """
        return None

    def set_precision(self, dtype: torch.dtype) -> None:
        """Choose the compute dtype; ``torch.float32`` turns autocast off."""
        self.autocast_dtype = None if dtype == torch.float32 else dtype

    def autocast(self, inputs: Tensor) -> AbstractContextManager:
        """The context the strategy's precision asks for, on the device of ``inputs``."""
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(inputs.device.type, dtype=self.autocast_dtype)

    def forward(self, inputs: Tensor, data_samples: list[Any] | None = None, mode: str = 'tensor') -> Any:
        """Run one of the three modes of mmengine models under the chosen precision.

        Args:
            inputs: Normalised pixels ``[B, 3, H, W]``.
            data_samples: One sample per image; not needed by ``'tensor'``.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'`` (features).
        """
        # Around all modes; what must not be rounded (heads, losses) leaves it again by itself.
        with self.autocast(inputs):
            if mode == 'loss':
                return self.loss(inputs, data_samples or [])
            if mode == 'predict':
                return self.predict(inputs, data_samples or [])
            if mode == 'tensor':
                return self.extract(inputs)
        raise ValueError(f"mode={mode!r} is unknown: use 'loss', 'predict' or 'tensor'")
