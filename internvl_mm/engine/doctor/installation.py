"""Is what the toolkit needs installed, in versions it knows?"""

from __future__ import annotations

import importlib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from internvl_mm.utils.errors import UserError


class Note(Exception):
    """Something works, but is worth knowing."""


def packages(folder: Path) -> str:
    """Every package of the toolkit's requirements is installed in a version within its range."""
    missing, other, found = [], [], 0
    try:
        # As pip wrote them down on installation: no second list that could differ.
        lines = metadata.requires('internvl_mm') or []
    except metadata.PackageNotFoundError as error:
        raise Note(
            'internvl_mm runs from a checkout and is not installed: pip install -e . lists its needs'
        ) from error
    for line in lines:
        requirement = Requirement(line)
        # Of extras, of other Pythons or systems.
        if requirement.marker is not None and not requirement.marker.evaluate({'extra': ''}):
            continue
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            missing.append(requirement.name)
            continue
        found += 1
        # Otherwise a nightly build of torch, 2.12.0.dev…, would be outside of every range.
        if not requirement.specifier.contains(installed, prereleases=True):
            other.append(f'{requirement.name} {installed} (wanted {requirement.specifier})')
    if missing:
        raise UserError(
            f'not installed: {", ".join(missing)}; run pip install -c requirements/constraints.txt .'
        )
    if other:
        raise UserError(
            f'versions nobody has tried: {", ".join(other)}; run make setup, or pip install the range'
        )
    return f'{found} packages within their ranges'


def image_libraries(folder: Path) -> str:
    """OpenCV imports (its full build needs the system library libGL, which servers lack)."""
    try:
        # Here, since whether it imports is the question.
        cv2 = importlib.import_module('cv2')
    except ImportError as error:
        raise UserError(
            f'cv2 does not import ({error}): pip install --no-deps --force-reinstall opencv-python-headless'
        ) from error
    return f'OpenCV {cv2.__version__}'


def operators(folder: Path) -> str:
    """Detection's operators run, compiled or ours."""
    import torch

    from internvl_mm import ops

    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
    # As mmcv gives it: the kept boxes with their scores, and their indices.
    _, kept = ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), iou_threshold=0.5)
    # The second box covers 0.81 of the first.
    assert kept.tolist() == [0, 2], f'nms kept {kept.tolist()} of three boxes instead of [0, 2]'
    kind = ops.backend()
    if kind != 'compiled':
        return "mmcv's operators on torch and torchvision (nothing compiled is needed)"
    return "mmcv's compiled operators"
