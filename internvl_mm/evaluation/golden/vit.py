"""Golden cases of the InternViT encoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import load_file

from internvl_mm.models.hub import load_model

from .comparison import Comparison


def check_vit(folder: Path) -> Iterator[Comparison]:
    """InternViT: last hidden state, pooler output and every hidden state, at each recorded image size."""
    model, golden = load_model(folder), load_file(folder / 'golden.safetensors')
    for name in golden:
        if not name.startswith('pixel_values_'):
            continue
        size = name.removeprefix('pixel_values_')
        output = model(golden[name], output_hidden_states=True)
        # [B, 1+N, D], no norm after the last block; [B, D], its class token; L+1 states, the embeddings first.
        yield f'last_hidden_state_{size}', output.last_hidden_state, golden[f'last_hidden_state_{size}']
        yield f'pooler_output_{size}', output.pooler_output, golden[f'pooler_output_{size}']
        for index, hidden in enumerate(output.hidden_states):
            yield f'hidden_{index}_{size}', hidden, golden[f'hidden_{index}_{size}']
