"""The backbone slot: what every backbone promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from internvl_mm.structures import VisionFeatures
from internvl_mm.utils.errors import CheckpointError, ConfigError

# 'all', how many layer ids from the embeddings on, or nothing.
Frozen = Literal['all'] | int | None


class BaseBackbone(nn.Module, ABC):
    """Pixels ``[B, 3, H, W]`` to :class:`VisionFeatures`.

    A backbone also answers, for optimisers and heads:

    Attributes:
        width: Channels D of its tokens and maps.
        num_layers: Number of blocks, for layer-wise learning-rate decay.
        strides: Pixels per cell of each map it gives.
    """

    width: int
    num_layers: int
    strides: tuple[float, ...]
    _frozen: Frozen = None

    @abstractmethod
    def forward(self, pixel_values: Tensor) -> VisionFeatures:
        """Compute features of normalised pixels ``[B, 3, H, W]``."""

    @abstractmethod
    def layer_id(self, name: str) -> int:
        """Depth of a parameter: 0 embeddings, i+1 block i, ``num_layers + 1`` everything after the blocks."""

    @abstractmethod
    def resize_positions(self, image_size: int) -> None:
        """Resample the stored position embedding to another training image size, in place."""

    def init_weights(self) -> None:
        """Load or draw the weights to start from; as it stands, what the constructor made is kept."""

    def load_weights(self, path: str | Path) -> None:
        """Load published weights, strictly; a backbone that knows no published layout refuses.

        Args:
            path: A folder or file.

        Raises:
            CheckpointError: The weights are not those of this backbone.
        """
        raise CheckpointError(
            f'{path}: {type(self).__name__} loads no published layout; give weights this toolkit saved'
        )

    def freeze(self, up_to: Frozen) -> None:
        """Stop gradients.

        Args:
            up_to: ``'all'`` freezes everything and keeps the backbone in evaluation mode (no drop path); an integer k
                freezes parameters whose layer id is below k (1: embeddings, 1+n: also the first n blocks).

        Raises:
            ConfigError: k is larger than the number of layer ids.
        """
        # Ids go from 0 to num_layers + 1, so that num_layers + 2 freezes every parameter, and leaves drop path on.
        if isinstance(up_to, int) and not 0 <= up_to <= self.num_layers + 2:
            raise ConfigError(
                f"frozen={up_to}: allowed are 'all' and 0 to {self.num_layers + 2} for this backbone of "
                f'{self.num_layers} blocks'
            )
        self._frozen = up_to
        for name, parameter in self.named_parameters():
            below = up_to == 'all' or (up_to is not None and self.layer_id(name) < up_to)
            # Both ways: freezing less than before lets the rest train again.
            parameter.requires_grad_(not below)
        # Already in training mode, a backbone frozen now must leave it.
        self.train(self.training)

    @property
    def is_frozen(self) -> bool:
        """Whether no parameter trains."""
        return self._frozen == 'all'

    def train(self, mode: bool = True) -> BaseBackbone:
        """Set the mode; a wholly frozen backbone stays in evaluation mode, so that its features do not change."""
        return super().train(mode and not self.is_frozen)


class BlockBackbone(BaseBackbone):
    """A plain transformer whose blocks can be run group by group, which is what ViT-Adapter wraps.

    Attributes:
        patch_size: Side of a patch, in pixels.
        use_class_token: Whether the tokens begin with a class token.
    """

    patch_size: int
    use_class_token: bool

    @abstractmethod
    def embed(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens before the first block, ``[B, 1+N, D]`` or ``[B, N, D]``, and the patch grid (h, w)."""

    @abstractmethod
    def run_blocks(self, tokens: Tensor, grid: tuple[int, int], blocks: range) -> Tensor:
        """Run some blocks in order; the tokens keep their shape. Gradients pass also through frozen blocks."""
