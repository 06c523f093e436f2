"""Recorded outputs of the published implementation, compared with ours.

A case is a folder: a tiny model in the published layout, inputs, and the outputs the published code computed for
them on CPU in fp32. Its kind is how its name begins; one small function per kind runs the case through the loaders
a user would call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from internvl_mm.utils.errors import DataError

from .chat import check_chat
from .comparison import Comparison, difference
from .internvl_14b import check_internvl_14b
from .probe import check_probe
from .seg_fpn import check_seg_fpn
from .text import check_text
from .vit import check_vit
from .vit_adapter import check_vit_adapter


@dataclass(frozen=True)
class CaseResult:
    """Outcome of one case.

    Attributes:
        name: Folder name.
        verdict: ``'PASS'`` or ``'FAIL'``.
        detail: Largest absolute difference, or what went wrong.
    """

    name: str
    verdict: str
    detail: str

    def __str__(self) -> str:
        return f'{self.verdict} {self.name} {self.detail}'


CHECKERS: dict[str, Callable[[Path], Iterator[Comparison]]] = {
    'vit': check_vit,
    'internvl_14b': check_internvl_14b,
    'probe': check_probe,
    'text': check_text,
    'chat': check_chat,
    'seg_fpn': check_seg_fpn,
    'vit_adapter': check_vit_adapter,
}


def kind_of(name: str) -> str:
    """Kind of a case by its folder name: the longest known kind it starts with, else its first word."""
    kinds = [kind for kind in CHECKERS if name == kind or name.startswith(f'{kind}_')]
    # 'vit_adapter' begins with 'vit', too.
    return max(kinds, key=len, default=name.partition('_')[0])


def check_case(folder: Path, tolerance: float) -> CaseResult:
    """Run one case; the detail of a failure names the output and its difference."""
    checker = CHECKERS.get(kind_of(folder.name))
    if checker is None:
        return CaseResult(
            folder.name, 'FAIL', f'no checker for kind {kind_of(folder.name)!r} in this version'
        )
    try:
        with torch.no_grad():
            errors = {name: difference(ours, recorded) for name, ours, recorded in checker(folder)}
    except (
        OSError,
        SafetensorError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        # A case that breaks must not keep the others from being checked.
        return CaseResult(folder.name, 'FAIL', f'{type(error).__name__}: {error}')
    if not errors:
        return CaseResult(folder.name, 'FAIL', 'the case holds nothing to compare')
    # There is no NaN among them, which max() could pass over: difference() makes it infinite.
    worst = max(errors, key=lambda name: errors[name])
    if errors[worst] <= tolerance:
        return CaseResult(folder.name, 'PASS', f'{errors[worst]:.2e}')
    return CaseResult(
        folder.name, 'FAIL', f'{worst} differs by {errors[worst]:.2e}, tolerance {tolerance:.0e}'
    )


def check_folder(folder: Path, *, tolerance: float = 1e-4, only: Iterable[str] = ()) -> Iterator[CaseResult]:
    """Check every case below a folder, in order of their names.

    Args:
        folder: Holds the case folders, or is one itself.
        tolerance: Largest absolute difference that passes.
        only: Kinds to check; all when empty.

    Raises:
        DataError: There is no case, or no kind of that name.
    """
    only = set(only)
    if unknown := sorted(only - set(CHECKERS)):
        raise DataError(f'{unknown[0]!r} is no kind of golden case; there are {", ".join(CHECKERS)}')
    # Two names: cases of text alone record no tensors.
    files = [*folder.rglob('golden.safetensors'), *folder.rglob('text_and_tiling.json')]
    cases = sorted({file.parent for file in files})
    cases = [case for case in cases if not only or kind_of(case.name) in only]
    if not cases:
        raise DataError(
            f'{folder} holds no golden case' + (f' of kind {", ".join(sorted(only))}' if only else '')
        )
    for case in cases:
        yield check_case(case, tolerance)
