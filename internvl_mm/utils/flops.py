"""Floating-point operations of a vision transformer, and what a device can do: the two halves of model utilisation.

Counts are 2 per multiply-add and leave out what is linear in the width (norms, biases, softmax), as the field does.
"""

from __future__ import annotations

import time

import torch

# Dense peaks in FLOP/s by a part of the device's name, without sparsity. Source: NVIDIA data sheets (SXM where both).
PEAK_FLOPS: dict[str, dict[torch.dtype, float]] = {
    'V100': {torch.float16: 125e12, torch.float32: 15.7e12},
    'A100': {torch.bfloat16: 312e12, torch.float16: 312e12, torch.float32: 19.5e12},
    'A800': {torch.bfloat16: 312e12, torch.float16: 312e12, torch.float32: 19.5e12},
    'L40S': {torch.bfloat16: 362e12, torch.float16: 362e12, torch.float32: 91.6e12},
    'RTX 4090': {torch.bfloat16: 165e12, torch.float16: 165e12, torch.float32: 82.6e12},
    'H100': {torch.bfloat16: 989e12, torch.float16: 989e12, torch.float32: 66.9e12},
    'H800': {torch.bfloat16: 989e12, torch.float16: 989e12, torch.float32: 66.9e12},
    'H200': {torch.bfloat16: 989e12, torch.float16: 989e12, torch.float32: 66.9e12},
    'B200': {torch.bfloat16: 2250e12, torch.float16: 2250e12, torch.float32: 75e12},
}


def vit_flops(
    num_layers: int, width: int, mlp: int, *, grid: tuple[int, int], patch: int = 14, class_token: bool = True
) -> float:
    """FLOPs of one image's forward pass through a plain vision transformer.

    Training takes 3 times as much (4 times when activations are recomputed), a frozen backbone once.

    Args:
        num_layers: Blocks L.
        width: Width d.
        mlp: Width f of the MLP.
        grid: Patches (h, w) of the image.
        patch: Side of a patch in pixels, of 3 channels.
        class_token: Whether one token is added to the h w patches.

    Returns:
        ``2 (L (N (4 d^2 + 2 d f) + 2 N^2 d) + h w * 3 patch^2 d)`` with N tokens.
    """
    patches = grid[0] * grid[1]
    tokens = patches + class_token
    # 4 d²: q, k, v and output projections; 2 N² d: scores and weighted values.
    block = tokens * (4 * width**2 + 2 * width * mlp) + 2 * tokens**2 * width
    # The patch embedding is one product of [h w, 3 patch²] by [3 patch², d]; the class token is not embedded.
    return 2.0 * (num_layers * block + patches * 3 * patch**2 * width)


def peak_flops(device: torch.device | str, dtype: torch.dtype) -> float | None:
    """Data-sheet peak of a device in FLOP/s, or ``None`` when it is not known (every CPU, unlisted GPUs)."""
    device = torch.device(device)
    if device.type != 'cuda':
        return None
    name = torch.cuda.get_device_name(device)
    # Devices are called 'NVIDIA H100 80GB HBM3' and the like.
    return next((peaks.get(dtype) for part, peaks in PEAK_FLOPS.items() if part in name), None)


def measured_matmul_rate(
    dtype: torch.dtype, *, device: torch.device | str = 'cpu', seconds: float = 0.5
) -> float:
    """Rate of large square matrix products on this machine, in FLOP/s: the peak for devices without a data sheet.

    Args:
        dtype: Of the factors.
        device: Where to multiply.
        seconds: How long to measure, after one warm-up product.

    Returns:
        The best of the measured products, so that other work on the machine lowers it little.
    """
    device = torch.device(device)
    # Large enough that launching costs nothing: 8192² fp32 values are 0.27 GB; 2 x 1536³ are 7 GFLOPs.
    side = 8192 if device.type == 'cuda' else 1536
    # Random values: GPUs draw less power, and clock higher, on zeros.
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def product() -> float:
        start = time.perf_counter()
        left @ right
        # CUDA products return before they are done.
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    product()
    best, stop = float('inf'), time.perf_counter() + seconds
    while best == float('inf') or time.perf_counter() < stop:
        best = min(best, product())
    return 2.0 * side**3 / best
