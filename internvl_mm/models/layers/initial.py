"""How layers start."""

from __future__ import annotations

from torch import nn


def draw_convolutions(module: nn.Module) -> None:
    """Normal weights with variance 2 / (kernel cells · output channels / groups), biases 0, as published."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            # Output channels of transposed convolutions, too, as published; nn.init would take their input channels.
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, std=(2.0 / fan_out) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
