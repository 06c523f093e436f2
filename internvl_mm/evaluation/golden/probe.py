"""Golden cases of the published classification probes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import load_file

from internvl_mm.models.convert import open_weights
from internvl_mm.models.convert.files import read_json
from internvl_mm.models.tasks.published_probe import build_published_probe

from .comparison import Comparison


def check_probe(folder: Path) -> Iterator[Comparison]:
    """Published classification probe: logits."""
    golden = load_file(folder / 'golden.safetensors')
    probe = build_published_probe(read_json(folder / 'case.json')['arguments'], open_weights(folder))
    pixels = golden['pixel_values']
    # Mode 'tensor' ends before the head; logits are [B, C].
    yield 'logits', probe.head(probe(pixels, mode='tensor')), golden['logits']
