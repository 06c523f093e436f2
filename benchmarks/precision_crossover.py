"""Where bf16 starts to pay on this CPU: one training step of a transformer block, fp32 against bf16 autocast, by width.

    python benchmarks/precision_crossover.py

The last line names the smallest width from which bf16 wins; `internvl_mm/utils/precision.py` holds the default.
"""

from __future__ import annotations

import statistics
import time

import torch

from internvl_mm.models.backbones import InternViT
from internvl_mm.utils.console import console, print_table, track
from internvl_mm.utils.precision import cpu_has_amx

WIDTHS = (64, 96, 128, 192, 256, 384, 512, 768, 1024)
ROUNDS = 7
TOKENS = 257  # of a 224 pixel image


def step_seconds(block: torch.nn.Module, tokens: torch.Tensor, *, bf16: bool) -> float:
    """Time one forward and backward pass."""
    start = time.perf_counter()
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=bf16):
        out = block(tokens, (16, 16))
    out.float().square().mean().backward()
    return time.perf_counter() - start


def measure(width: int) -> tuple[float, float]:
    """Median seconds of fp32 and of bf16, rounds interleaved."""
    model = InternViT(
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=max(width // 64, 1),
        intermediate_size=4 * width,
        norm_type='layer_norm',
        qk_normalization=False,
        initializer_factor=1.0,
    )
    model.init_weights()
    block = model.encoder.layers[0]
    tokens = torch.randn(max(2, 2048 // width), TOKENS, width)
    rounds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(ROUNDS + 2):
        for bf16, times in rounds.items():
            seconds = step_seconds(block, tokens, bf16=bf16)
            if number >= 2:  # the first two warm up
                times.append(seconds)
    return statistics.median(rounds[False]), statistics.median(rounds[True])


def main() -> None:
    """Measure every width and print the table."""
    torch.manual_seed(0)
    rows = []
    for width in track(WIDTHS, 'Measuring'):
        fp32, bf16 = measure(width)
        rows.append((width, fp32 * 1e3, bf16 * 1e3, fp32 / bf16))
    print_table('One block, forward and backward', ('width', 'fp32 ms', 'bf16 ms', 'bf16 speed-up'), rows)
    losing = [width for width, *_, ratio in rows if ratio < 1]
    winning = [width for width in WIDTHS if width > max(losing, default=0)]
    verdict = f'bf16 pays from width {winning[0]}' if winning else 'bf16 pays at no measured width'
    console.print(f'AMX-BF16: {cpu_has_amx()}; {torch.get_num_threads()} threads; {verdict}')


if __name__ == '__main__':
    main()
