"""Sizes of parameters, wherever their values are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def numel(parameter: Tensor) -> int:
    """Values of a whole parameter; ZeRO-3 leaves an empty tensor in its place and keeps its size aside."""
    return getattr(parameter, 'ds_numel', parameter.numel())


def local_part(parameter: Tensor) -> Tensor:
    """The values this process holds: of ZeRO-3 its slice, of FSDP its rows, otherwise all."""
    # ZeRO-3 keeps the slice here; the parameter itself is empty between uses.
    part = getattr(parameter, 'ds_tensor', parameter)
    return part.to_local() if isinstance(part, DTensor) else part


def find_blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Entries of lists of equal modules, such as the layers of an encoder; lists within them are not entered."""
    inside: set[int] = set()
    for module in model.modules():
        if id(module) in inside or not isinstance(module, nn.ModuleList):
            continue
        # A list of unlike parts (a neck's branches, say) is no stack of blocks.
        kinds = Counter(type(entry) for entry in module)
        for entry in module:
            # Single layers are too small to be handled alone.
            if kinds[type(entry)] > 1 and any(True for _ in entry.children()):
                inside |= {id(part) for part in entry.modules()}
                yield entry
