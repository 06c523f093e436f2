"""The connector slot: from what the vision tower gives to what the language model reads."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class BaseConnector(nn.Module, ABC):
    """Vision tokens ``[B, 1+N, C]``, class token first, to visual tokens ``[B, T, H]`` in the language model's space.

    Attributes:
        tokens_per_tile: Number T of visual tokens of one tile at the training image size.
        out_dim: Width H of the language model.
        reads_last: It also takes the last hidden state of the vision tower, as a second argument.
    """

    tokens_per_tile: int
    out_dim: int
    reads_last: bool = False

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, 1+N, C]`` to ``[B, T, H]``; tiles of a batch never mix."""

    def init_weights(self) -> None:
        """Load what the part starts from; by default nothing."""
