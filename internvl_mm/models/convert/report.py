"""Conversion from layout to layout with a proof: every name accounted for, every byte compared, outputs compared."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from internvl_mm.utils.console import console, print_table

from .files import open_weights, same_bytes
from .names import Layout, VisionWeights, stored_names, to_hf
from .settings import check_expressible, vision_settings
from .target import check_target
from .write import our_forward, read_back, write_vision

TOLERANCE = (
    1e-5  # of outputs in fp32, as a share of the largest; another order of sums is all that may differ
)


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Attributes:
        found: What the source held.
        renamed: HF name to names written; every tensor of the InternViT occurs.
        changed: HF names whose dtype, shape or bytes differ when the result is read again; empty when all is well.
        difference: Largest difference of the outputs of source and result on fixed inputs, in fp32.
        scale: Largest output of the source.
    """

    found: VisionWeights
    renamed: dict[str, list[str]]
    changed: tuple[str, ...]
    difference: float
    scale: float

    @property
    def exact(self) -> bool:
        """Whether every tensor came back and the outputs agree."""
        return not self.changed and self.difference <= TOLERANCE * max(self.scale, 1.0)


def convert(source: Path, target: Path, layout: Layout, *, num_heads: int | None = None) -> Conversion:
    """Write the InternViT at ``source`` to ``target`` in another layout and compare the two.

    Args:
        source: Folder or file in any layout, possibly with a whole chat model around the ViT.
        target: New folder, or new file for ``'pth'``.
        layout: What to write.
        num_heads: Number of attention heads, where nothing says it.

    Raises:
        CheckpointError: The source cannot be read, or the target cannot hold it.
    """
    # Before a 6B model is read and run.
    check_target(target, layout)
    found = to_hf(open_weights(source))
    settings = vision_settings(source, found, num_heads)
    check_expressible(settings, layout)
    pixels = _fixed_pixels(settings['num_channels'], settings['image_size'])
    with torch.no_grad():
        # One model at a time, so that a 6B model needs its memory once; and nothing is written when the source is bad.
        before = our_forward(found, settings, source)(pixels)  # fp32 [2, 1+N, D]
        write_vision(found.tensors, settings, target, layout)
        after = read_back(target, settings, layout)(pixels)
    # From disk once more: the model above has been made fp32.
    again = to_hf(open_weights(target)).tensors
    # Of both: a tensor too many is a change, too.
    names = sorted(found.tensors.keys() | again.keys())
    changed = tuple(name for name in names if not same_bytes(found.tensors.get(name), again.get(name)))
    return Conversion(
        found=found,
        renamed={name: stored_names(name, layout) for name in found.tensors},
        changed=changed,
        difference=float((after - before).abs().max()),
        scale=float(before.abs().max()),
    )


def _fixed_pixels(channels: int, size: int) -> Tensor:
    """Two random images ``[2, channels, size, size]``, the same in every conversion."""
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))


def _family(name: str) -> str:
    """The name without its block number, so that one line stands for all blocks."""
    return re.sub(r'\.\d+\.', '.{i}.', name)


def print_report(conversion: Conversion, target: Path) -> None:
    """Print the account of names and the comparison."""
    found = conversion.found
    # One line for all blocks: InternViT-6B has 48 of them with the same names.
    rows = Counter(
        (_family(name), ', '.join(map(_family, stored))) for name, stored in conversion.renamed.items()
    )
    print_table(
        f'InternViT found in the {found.layout} layout'
        + (f' under {found.prefix!r}' if found.prefix else '')
        + f', {found.depth} blocks',
        ('HF name', 'written as', 'tensors'),
        [(*names, count) for names, count in rows.items()],
    )
    if found.others:
        families = Counter(map(_family, found.others))
        title = 'Not InternViT, not converted'
        print_table(
            title, ('name in the source', 'tensors'), [(name, count) for name, count in families.items()]
        )
    dtypes = Counter(str(tensor.dtype).removeprefix('torch.') for tensor in found.tensors.values())
    kept = 'yes' if not conversion.changed else f'NO: {", ".join(conversion.changed)}'
    console.print(f'written            {target}')
    console.print(
        f'tensors            {len(conversion.renamed)} ({", ".join(f"{n} {d}" for d, n in dtypes.items())})'
    )
    console.print(f'read back the same {kept}')
    console.print(
        f'outputs in fp32    differ by at most {conversion.difference:.2g}; the largest is {conversion.scale:.3g}'
    )
