"""Which part of a chat model goes on which device, for models larger than one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from internvl_mm.utils.errors import ConfigError

Device = int | str
# Names of InternLM2 folders in device maps that users wrote for the published class.
_PUBLISHED = {
    'language_model.model.tok_embeddings': 'language_model.model.embed_tokens',
    'language_model.output': 'language_model.lm_head',
}
# Everything beside the language model's layers.
_TOGETHER = (
    'vision_model',
    'mlp1',
    'language_model.model.embed_tokens',
    'language_model.model.norm',
    'language_model.model.rotary_emb',
    'language_model.lm_head',
)


def balanced_device_map(model: nn.Module, devices: Sequence[Device]) -> dict[str, Device]:
    """Spread the language model's layers so that every device holds about as many parameters.

    The first device gets the vision tower, the connector, the embeddings and the last layer with the head: what
    exchanges tensors with each other stays together, as the model cards advise.

    Args:
        model: A chat model, best on the meta device: only sizes are read.
        devices: Where to, in order.

    Raises:
        ConfigError: There is no device.
    """
    if not devices:
        raise ConfigError('a device map needs at least one device')
    layers = model.language_model.model.layers
    size = sum(parameter.numel() for parameter in layers[0].parameters())
    rest = sum(parameter.numel() for parameter in model.parameters()) - size * len(layers)
    share = (rest + size * len(layers)) / len(devices)  # parameters per device
    # The last layer is one of the first device's; a vision tower larger than a share leaves it no other.
    first = max(round((share - rest) / size) - 1, 0) if len(devices) > 1 else len(layers) - 1
    placed = dict.fromkeys(_TOGETHER, devices[0])
    spread = len(layers) - 1 - first
    for index in range(len(layers)):
        if index < first or index == len(layers) - 1:
            device = devices[0]
        else:
            # Contiguous runs of as equal a length as possible on the other devices.
            device = devices[1 + (index - first) * (len(devices) - 1) // spread]
        placed[f'language_model.model.layers.{index}'] = device
    return placed


def renamed_device_map(device_map: Mapping[str, Any]) -> dict[str, Any]:
    """A user's device map with names of InternLM2 modules as the Llama modules they have become."""
    return {_PUBLISHED.get(name, name): device for name, device in device_map.items()}
