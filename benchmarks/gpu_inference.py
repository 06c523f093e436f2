"""Compiled bf16 inference of InternViT on CUDA as a share of the matrix-product rate measured in the same run.

Random weights: speed does not depend on them. Needs a CUDA device; the 6B row needs about 16 GiB of its memory.
"""

from __future__ import annotations

import statistics

import torch

from benchmarks.harness import Row, interleave, matmul_rate
from internvl_mm.models.backbones import InternViT
from internvl_mm.utils.flops import vit_flops

SIDE = 448
# name: (sizes, batch, goal share)
MODELS = {
    '300M': (
        dict(
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
            norm_type='layer_norm',
            qk_normalization=False,
            qkv_bias=True,
        ),
        128,
        0.65,
    ),
    '6B': (
        dict(hidden_size=3200, num_hidden_layers=45, num_attention_heads=25, intermediate_size=12800),
        16,
        0.70,
    ),
}


@torch.inference_mode()
def share_of_product_rate(sizes: dict, batch: int, *, rounds: int) -> tuple[float, float, float]:
    """Images per second, share of the product rate, and that rate in FLOP/s."""
    with torch.device('cuda'):
        model = InternViT(image_size=SIDE, **sizes).bfloat16().eval()
    model.init_weights()
    forward = torch.compile(lambda pixels: model(pixels).tokens)
    pixels = torch.randn(batch, 3, SIDE, SIDE, device='cuda', dtype=torch.bfloat16)
    rate = matmul_rate(torch.bfloat16, 'cuda')
    seconds = statistics.median(
        interleave({'ours': lambda: forward(pixels)}, rounds=rounds, warmup=3)['ours']
    )
    grid = (SIDE // 14, SIDE // 14)
    per_image = vit_flops(
        num_layers=model.num_layers, width=model.width, mlp=sizes['intermediate_size'], grid=grid
    )
    return batch / seconds, batch * per_image / seconds / rate, rate


def run(quick: bool = False) -> list[Row]:
    """One row per size."""
    if not torch.cuda.is_available():
        raise SystemExit('gpu_inference needs a CUDA device; none is visible to torch')
    rows = []
    for name, (sizes, batch, goal) in MODELS.items():
        images, share, rate = share_of_product_rate(sizes, batch, rounds=5 if quick else 21)
        note = f'{images:.0f} images/s at batch {batch}; product {rate / 1e12:.0f} TFLOP/s'
        rows.append(
            Row(f'{name} at {SIDE}', 'matrix product', share, 1, 'share', share, share, share, goal, note)
        )
        torch.cuda.empty_cache()
    return rows
