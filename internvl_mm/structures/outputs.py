"""What a backbone gives: the only type that crosses from backbones to necks, heads and connectors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from internvl_mm.utils.errors import ConfigError


@dataclass
class VisionFeatures:
    """Features of a batch of images.

    Shape letters: B batch, N patches, D width, (h, w) patch grid with h·w = N.

    Attributes:
        tokens: Output of the last block, class token first, ``[B, 1+N, D]``; without one ``[B, N, D]``. Not normalised.
        grid: Patch grid ``(h, w)``.
        hidden_states: When asked for, ``num_layers + 1`` tensors ``[B, 1+N, D]``: entry 0 are the embeddings, entry i
            the output of block i-1, the last one equals ``tokens``.
        maps: When taps are asked for, one ``[B, D, h, w]`` per tapped block, class token removed, fp32.
        strides: Pixels per map cell, one number per entry of ``maps``.
        has_class_token: Whether ``tokens`` begin with a class token.
    """

    tokens: Tensor
    grid: tuple[int, int]
    hidden_states: tuple[Tensor, ...] | None = None
    maps: tuple[Tensor, ...] = ()
    strides: tuple[float, ...] = ()
    has_class_token: bool = True

    @property
    def pooled(self) -> Tensor:
        """The class token of ``tokens``, ``[B, D]``: no projection, no norm (the published ``pooler_output``).

        Raises:
            ConfigError: The backbone dropped it.
        """
        if not self.has_class_token:
            raise ConfigError(
                'the class token is asked for, but the backbone runs without one: set use_class_token=True there, or '
                'pool the patches (MeanPatch)'
            )
        return self.tokens[:, 0]

    @property
    def patches(self) -> Tensor:
        """The patch tokens, ``[B, N, D]``."""
        # The class token, where there is one, comes first.
        return self.tokens[:, int(self.has_class_token) :]
