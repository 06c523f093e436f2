"""Golden cases of the published ViT-Adapter around InternViT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import load_file

from internvl_mm.models.convert import open_weights
from internvl_mm.models.convert.files import read_json
from internvl_mm.models.published_dense import build_published_adapter

from .comparison import Comparison, feature_maps


def check_vit_adapter(folder: Path) -> Iterator[Comparison]:
    """ViT-Adapter: the map of every scale."""
    golden = load_file(folder / 'golden.safetensors')
    model = build_published_adapter(read_json(folder / 'case.json')['arguments'], open_weights(folder))
    # One [B, D, h, w] per scale.
    yield from feature_maps(model(golden['pixel_values']).maps, golden)
