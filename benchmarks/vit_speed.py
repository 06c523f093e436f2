"""InternViT-300M forward and training step against timm and transformers at equal weights and dtype.

Four blocks of the 300M size, batch 2 at 448 pixels. The gate: outputs agree within 1e-4 of the largest value in fp32
before anything is timed. Shares of the machine's matrix-product rate are measured in the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import timm
import torch
from torch import Tensor, nn
from transformers import InternVLVisionConfig, InternVLVisionModel

from benchmarks.harness import Row, compare, interleave, matmul_rate
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.convert import from_hf
from internvl_mm.utils.flops import vit_flops

DEPTH, BATCH, SIDE = 4, 2, 448
WIDTH, MLP, HEADS = 1024, 4096, 16
GATE = 1e-4
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}
PEERS = ('timm', 'transformers')
# Shares of the matrix-product rate that were set as goals for the forward pass.
SHARE_GOALS = {'fp32': 0.75, 'bf16': 0.55}


def build_models() -> dict[str, nn.Module]:
    """Our model and both peers with one set of random weights."""
    torch.manual_seed(0)
    ours = InternViT(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=MLP,
        image_size=SIDE,
        norm_type='layer_norm',
        qk_normalization=False,
        qkv_bias=True,
    )
    ours.init_weights()
    state = ours.state_dict()
    peer_timm = timm.create_model('vit_intern300m_patch14_448', depth=DEPTH)
    peer_timm.load_state_dict(from_hf(state, 'timm'))
    config = InternVLVisionConfig(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=MLP,
        image_size=[SIDE, SIDE],
        patch_size=[14, 14],
        attention_bias=True,
        norm_type='layer_norm',
        use_qk_norm=False,
        use_mean_pooling=True,
    )
    peer_native = InternVLVisionModel(config)
    peer_native.load_state_dict(from_hf(state, 'native'), strict=True)
    return {'ours': ours.eval(), 'timm': peer_timm.eval(), 'transformers': peer_native.eval()}


def forward(name: str, model: nn.Module, pixels: Tensor) -> Tensor:
    """Tokens of the last block, ``[B, 1+N, D]``, whatever the model calls them."""
    if name == 'ours':
        return model(pixels).tokens
    return model.forward_features(pixels) if name == 'timm' else model(pixels).last_hidden_state


def train_step(name: str, model: nn.Module, pixels: Tensor) -> None:
    """Forward, a scalar, backward; gradients are dropped."""
    forward(name, model, pixels).float().square().mean().backward()
    model.zero_grad(set_to_none=True)


@torch.no_grad()
def gate(models: dict[str, nn.Module], pixels: Tensor) -> None:
    """Stop unless all models agree."""
    tokens = {name: forward(name, model, pixels) for name, model in models.items()}
    for peer in PEERS:
        error = ((tokens['ours'] - tokens[peer]).abs().max() / tokens[peer].abs().max()).item()
        if error > GATE:
            raise AssertionError(
                f'outputs differ from {peer} by {error:.2e} of the largest value: nothing to compare'
            )


def cells(models: dict[str, nn.Module], pixels: Tensor, label: str, *, rounds: int) -> list[Row]:
    """Rows of one dtype: forward and forward with backward against both peers, and the share of the product rate."""
    rows = []
    with torch.inference_mode():
        runs: dict[str, Callable] = {n: partial(forward, n, m, pixels) for n, m in models.items()}
        seconds = interleave(runs, rounds=rounds, warmup=2)
    flops = BATCH * vit_flops(num_layers=DEPTH, width=WIDTH, mlp=MLP, grid=(SIDE // 14, SIDE // 14))
    rate = matmul_rate(DTYPES[label])
    rows += [compare(f'forward {label}', seconds, peer, goal=1.0) for peer in PEERS]
    share, goal = flops / min(seconds['ours']) / rate, SHARE_GOALS[label]
    note = f'share of {rate / 1e9:.0f} GFLOP/s measured; goal {goal:.2f}'
    rows.append(
        Row(f'forward {label}, share', 'matrix product', share, 1, 'share', share, share, share, goal, note)
    )
    seconds = interleave(
        {n: partial(train_step, n, m, pixels) for n, m in models.items()},
        rounds=max(3, rounds // 2),
        warmup=1,
    )
    return rows + [compare(f'forward+backward {label}', seconds, peer, goal=1.0) for peer in PEERS]


def auto_precision(models: dict[str, nn.Module], pixels: Tensor, *, rounds: int) -> list[Row]:
    """What a user gets by default ('auto') against fp32 timm, with the cosine between the two outputs."""
    from internvl_mm.utils.precision import resolve_precision

    dtype = resolve_precision('auto', device='cpu', width=WIDTH).dtype

    def ours() -> Tensor:
        with torch.autocast('cpu', dtype=dtype, enabled=dtype != torch.float32):
            return forward('ours', models['ours'], pixels)

    # The promise is about CPUs where bf16 pays (AMX); elsewhere 'auto' keeps fp32 and should lose nothing.
    goal = 3.0 if dtype != torch.float32 else 1.0
    with torch.inference_mode():
        reference = forward('timm', models['timm'], pixels)
        cosine = torch.cosine_similarity(ours().float(), reference, dim=-1).min().item()
        if cosine < 0.999:
            raise AssertionError(f"'auto' precision gives tokens with cosine {cosine:.5f} < 0.999 to fp32")
        seconds = interleave(
            {'ours': ours, 'timm': partial(forward, 'timm', models['timm'], pixels)}, rounds=rounds, warmup=2
        )
    return [
        compare(
            f"forward 'auto' ({dtype}) vs fp32", seconds, 'timm', goal=goal, note=f'least cosine {cosine:.5f}'
        )
    ]


def run(quick: bool = False) -> list[Row]:
    """All cells."""
    rounds = 3 if quick else 9
    models = build_models()
    pixels = torch.randn(BATCH, 3, SIDE, SIDE)
    gate(models, pixels)
    rows = cells(models, pixels, 'fp32', rounds=rounds) + auto_precision(models, pixels, rounds=rounds)
    halves = {name: model.bfloat16() for name, model in models.items()}
    return rows + cells(halves, pixels.bfloat16(), 'bf16', rounds=rounds)
