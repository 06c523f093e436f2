"""InternViT weights written in each layout, and read back through the peer the layout belongs to.

Shape letters: B batch, N patches, D width.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from torch import Tensor
from transformers import InternVLVisionConfig, InternVLVisionModel

from internvl_mm.models.backbones import InternViT
from internvl_mm.models.hf_intern_vit import InternVisionConfig
from internvl_mm.models.hub import load_model

from .files import open_weights
from .legacy import write_pickle
from .load import fill_module
from .names import Layout, VisionWeights, from_hf, to_hf
from .settings import native_settings, timm_settings
from .target import check_target, written_whole

_TIMM_NAME = 'vit_intern300m_patch14_448'

Tensors = dict[str, Tensor]
Forward = Callable[[Tensor], Tensor]  # pixels [B, 3, H, W] to tokens [B, 1+N, D], fp32


def write_vision(tensors: Tensors, settings: dict[str, Any], target: Path, layout: Layout) -> None:
    """Write tensors with HF names in another layout, dtype kept: a folder, for ``'pth'`` a file.

    Raises:
        CheckpointError: The layout cannot hold the model, or the target cannot be written there.
    """
    check_target(target, layout)
    stored = from_hf(tensors, layout)
    dtype = str(next(iter(tensors.values())).dtype).removeprefix('torch.')
    with written_whole(target) as partial:
        if layout != 'pth':
            partial.mkdir()
        _WRITERS[layout](stored, {**settings, 'dtype': dtype}, partial)


def _write_hf(stored: Tensors, settings: dict[str, Any], target: Path) -> None:
    InternVisionConfig(**{**settings, 'architectures': ['InternVisionModel']}).save_pretrained(target)
    # In shards with an index where it is large, as the published folders of the 6B are.
    save_torch_state_dict(stored, target)


def _write_native(stored: Tensors, settings: dict[str, Any], target: Path) -> None:
    arguments = native_settings(settings)
    config = InternVLVisionConfig(**arguments, dtype=settings['dtype'], architectures=['InternVLVisionModel'])
    config.save_pretrained(target)
    save_torch_state_dict(stored, target)


def _write_timm(stored: Tensors, settings: dict[str, Any], target: Path) -> None:
    size = settings['image_size']
    # What timm.create_model('local-dir:<folder>') reads.
    config = dict(
        architecture=_TIMM_NAME,
        num_classes=0,
        model_args=timm_settings(settings),
        # As timm's own entry of the 300M has it.
        pretrained_cfg=dict(input_size=[3, size, size], num_classes=0, crop_pct=1.0, interpolation='bicubic'),
    )
    (target / 'config.json').write_text(json.dumps(config, indent=2) + '\n', 'utf-8')
    save_file(stored, target / 'model.safetensors', metadata={'format': 'pt'})


def _write_pth(stored: Tensors, settings: dict[str, Any], target: Path) -> None:
    del settings  # the layout has no place for them
    write_pickle(target, stored)


_WRITERS: dict[Layout, Callable[[Tensors, dict[str, Any], Path], None]] = {
    'hf': _write_hf,
    'native': _write_native,
    'timm': _write_timm,
    'pth': _write_pth,
}


def read_back(target: Path, settings: dict[str, Any], layout: Layout) -> Forward:
    """Load what was written, in fp32, with the library it was written for; ours for ``'hf'`` and ``'pth'``."""
    if layout == 'native':
        native = InternVLVisionModel.from_pretrained(target, dtype='float32').eval()
        return lambda pixels: native(pixels).last_hidden_state
    if layout == 'timm':
        peer = timm.create_model(f'local-dir:{target}', pretrained=True).float().eval()
        return peer.forward_features
    if layout == 'hf':
        model = load_model(target, dtype='float32')
        return lambda pixels: model(pixels).last_hidden_state
    return our_forward(to_hf(open_weights(target)), settings, target)


def our_forward(found: VisionWeights, settings: dict[str, Any], path: Path) -> Forward:
    """An InternViT of these settings and the weights read from ``path``, in fp32."""
    backbone = InternViT(**InternVisionConfig(**settings).backbone_arguments()).eval()
    fill_module(backbone, found, path)
    return lambda pixels: backbone(pixels).tokens
