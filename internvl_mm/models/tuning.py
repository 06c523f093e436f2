"""What of a part is trained: all, nothing, its last blocks, or adapters beside frozen weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from internvl_mm.registry import MODELS
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import ConfigError

# Linear layers of InternViT blocks and of the projector that the published recipes adapt.
VISION_TARGETS = ('attn.qkv', 'attn.proj', 'mlp.fc1', 'mlp.fc2')
# Places in the projector's nn.Sequential: 0 is the layer norm, 2 the GELU.
PROJECTOR_TARGETS = ('1', '3')


@MODELS.register_module()
@dataclass(frozen=True)
class Lora:
    """Low-rank adapters of one part.

    Attributes:
        rank: Of the adapters.
        alpha: Their scale times the rank; twice the rank when left out, as published (only that can be kept apart from
            the weights in the published layout).
        dropout: Before the adapters.
        targets: Ends of names of the layers to adapt; those of the published recipes when left out.
        dora: Also learn the norms of the adapted weights (arXiv 2402.09353).
        quantise: Keep the frozen weights in 4 bits (``'nf4'``, arXiv 2305.14314); needs bitsandbytes.

    Source: Hu et al. 2021, "LoRA" (arXiv 2106.09685); peft.
    """

    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.05  # published
    targets: tuple[str, ...] | None = None
    dora: bool = False
    quantise: Literal['nf4'] | None = None

    def __post_init__(self) -> None:
        check_counts(rank=self.rank)


@MODELS.register_module()
@dataclass(frozen=True)
class PartTuning:
    """How one part of a chat model is trained.

    Attributes:
        train: ``'all'``, ``'none'``, or a number: only so many blocks from the end (published ``unfreeze_vit_layers``).
        lora: Adapters; the weights themselves then have to be frozen.
        checkpointing: Compute activations again in the backward pass instead of keeping them.
    """

    train: Literal['all', 'none'] | int = 'all'
    lora: Lora | dict | None = None
    checkpointing: bool = False

    @property
    def adapters(self) -> Lora | None:
        """Built adapters."""
        return MODELS.build(self.lora) if isinstance(self.lora, dict) else self.lora

    @property
    def frozen(self) -> bool:
        """Whether nothing of the part trains."""
        return self.train == 'none' and self.lora is None


def tune(
    part: nn.Module, settings: PartTuning, *, blocks: Sequence[nn.Module], targets: Sequence[str]
) -> None:
    """Set what trains, and put adapters into the part.

    Args:
        part: The part.
        settings: What is wanted.
        blocks: Its blocks, first to last; none for a projector.
        targets: Ends of names of the layers that adapters go to by default.

    Raises:
        ConfigError: The part has fewer blocks, adapters beside weights that train, or targets that are not there.
    """
    # All or nothing first; a number then lets the last blocks train.
    part.requires_grad_(settings.train == 'all')
    if not isinstance(settings.train, str):
        if not 0 < settings.train <= len(blocks):
            raise ConfigError(
                f"train={settings.train}: a number of blocks from the end, of which there are {len(blocks)}; or 'all', "
                "'none'"
            )
        for block in blocks[-settings.train :]:
            block.requires_grad_(True)
    adapters = settings.adapters
    if adapters is None:
        return
    if settings.train != 'none':
        raise ConfigError(
            f"lora beside train={settings.train!r}: adapters belong to frozen weights, set train='none'"
        )
    _add_adapters(part, adapters, adapters.targets or tuple(targets))


def _add_adapters(part: nn.Module, adapters: Lora, targets: tuple[str, ...]) -> None:
    # With the dot, so that 'proj' does not take 'q_proj' as well.
    ends = tuple('.' + target for target in targets)
    chosen = [
        name
        for name, layer in part.named_modules()
        if isinstance(layer, nn.Linear) and f'.{name}'.endswith(ends)
    ]
    if missing := [end for end in ends if not any(f'.{name}'.endswith(end) for name in chosen)]:
        raise ConfigError(
            f'lora.targets: {type(part).__name__} has no linear layer whose name ends in {missing[0][1:]!r}'
        )
    if adapters.quantise:
        _quantise(part, chosen)
    alpha: Any = 2 * adapters.rank if adapters.alpha is None else adapters.alpha  # a fraction is fine, too
    config = LoraConfig(
        r=adapters.rank,
        lora_alpha=alpha,
        lora_dropout=adapters.dropout,
        target_modules=chosen,
        use_dora=adapters.dora,
        bias='none',
    )
    # Into the part itself, without a wrapper: names only grow by '.base_layer' and '.lora_*'.
    inject_adapter_in_model(config, part)


def _quantise(part: nn.Module, names: Sequence[str]) -> None:
    """Put 4-bit layers in place of linear ones."""
    try:
        from .layers.four_bit import BLOCK, FourBitLinear
    except ImportError as error:
        raise ConfigError(
            "lora.quantise='nf4' needs bitsandbytes: pip install bitsandbytes, or leave quantise out"
        ) from error
    for name in names:
        owner, _, last = name.rpartition('.')
        layer = part.get_submodule(name)
        if layer.in_features % BLOCK:
            raise ConfigError(
                f"lora.quantise='nf4': {name} of {type(part).__name__} has {layer.in_features} inputs, and 4 bits "
                f'come in blocks of {BLOCK}: choose other layers with lora.targets, or leave quantise out'
            )
        setattr(part.get_submodule(owner), last, FourBitLinear(layer))


def dequantise(part: nn.Module) -> None:
    """Put plain layers, of the same values, in place of 4-bit ones."""
    # A list, since modules are replaced on the way.
    for name, layer in list(part.named_modules()):
        if to_linear := getattr(layer, 'to_linear', None):
            owner, _, last = name.rpartition('.')
            setattr(part.get_submodule(owner), last, to_linear())


def plain_name(name: str) -> str:
    """Name of a weight as it was before adapters came beside it."""
    return name.replace('.base_layer.', '.')


def is_adapter(name: str) -> bool:
    """Whether a parameter belongs to an adapter."""
    # Of peft: lora_A, lora_B and, with DoRA, lora_magnitude_vector.
    return '.lora_' in name
