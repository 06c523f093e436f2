"""Chat fine-tuning on one GPU: model FLOP utilisation of useful tokens at 16k packed, and memory of adapters on 8B.

InternVL2-2B's shape (300M + 1.8B) with all weights training, and InternVL2-8B's with adapters of rank 16: random
weights, bf16, activations recomputed. Useful operations are those of the tokens of conversations (not padding) and of
their tiles, forward and backward, without recomputation; attention counts each conversation alone. The rate is a share
of the matrix-product rate measured in the same run. Needs a CUDA device of 80 GB.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from benchmarks.chat_second_turn import TOKENIZER
from benchmarks.harness import Row, interleave, matmul_rate
from internvl_mm.data.collate_chat import collate_packed
from internvl_mm.engine.config import load_config
from internvl_mm.models.tasks.chat_tuning import ChatTuning
from internvl_mm.models.tuning import Lora, PartTuning
from internvl_mm.structures import IGNORE, ChatBatch, ChatSample
from internvl_mm.utils.flops import vit_flops

# Tiles of the pictures of a pack, with as many tokens of text as fill it: 48 tiles of 256 tokens, and 4,096 of text.
PACK_TILES, MAX_TOKENS = (13, 9, 7, 7, 5, 3, 3, 1), 16_384
MFU_GOAL, MEMORY_LIMIT = 0.45, 80.0  # share of the product rate; GB of a card


def build(name: str, *, lora: bool, device: str, **sizes: Any) -> ChatTuning:
    """A task in a published shape with random weights.

    Args:
        name: Of a config of ``_base_/models/chat``.
        lora: Adapters in the language model alone, instead of training everything.
        device: Where to.
        **sizes: Dotted settings that make it smaller, for trying this file out.
    """
    chat = load_config(
        f'_base_/models/chat/{name}.py', [f'model.{key}={value}' for key, value in sizes.items()]
    ).model
    chat['vision']['pretrained'] = chat['language_model']['pretrained'] = None  # random weights
    frozen = PartTuning(train='none')
    adapted = PartTuning(train='none', lora=Lora(rank=16), checkpointing=True)
    parts = dict(vision=frozen, projector=frozen, language=adapted) if lora else {}
    with torch.device(device):
        task = ChatTuning(
            chat=chat,
            tokenizer=AutoTokenizer.from_pretrained(TOKENIZER.with_name('chat_internlm2_tiny')),
            **parts or dict(vision=PartTuning(checkpointing=True), language=PartTuning(checkpointing=True)),
        )
    task.init_weights()
    task.set_precision(torch.bfloat16)
    # Frozen weights in bf16; those that train stay in fp32, as the published recipes' optimiser keeps them.
    for parameter in task.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    return task.to(device).train()


def pack(task: ChatTuning, device: str) -> ChatBatch:
    """One full pack; half of the text is learned."""
    per_tile, side = task.chat.num_image_token, task.chat.image_size
    budget = int(MAX_TOKENS * per_tile / 256)
    text = (budget - sum(PACK_TILES) * per_tile) // len(PACK_TILES)
    samples = []
    for tiles in PACK_TILES:
        words = torch.randint(3, 500, (text,))
        ids = torch.cat([torch.full((tiles * per_tile,), task.chat.img_context_token_id), words])
        labels = ids.clone()
        labels[: -text // 2] = IGNORE
        pixels = torch.zeros(tiles, 3, side, side, dtype=torch.uint8)
        samples.append(ChatSample(pixels, (tiles,), ids, labels))
    batch = collate_packed([dict(inputs=samples)])['inputs'].to(device)
    return ChatBatch(**{**vars(batch), 'tiles': batch.tiles.to(torch.bfloat16)})


def useful_flops(task: ChatTuning, batch: ChatBatch) -> float:
    """Of a training step with all weights: three times the forward pass (PaLM, appendix B)."""
    language, vision = task.chat.language_model, task.chat.vision_model
    embeddings = language.get_input_embeddings().weight.numel()
    head = language.get_output_embeddings().weight.numel()
    matrices = sum(p.numel() for p in language.parameters()) - embeddings - head
    lengths = (batch.cu_seqlens[1:] - batch.cu_seqlens[:-1]).double()
    width = language.config.num_attention_heads * language.config.head_dim
    # Scores and values are 2 products of [n, n] halves (causal): 2 · 2 · n² / 2 · width in each layer.
    attention = float((lengths**2).sum()) * 2 * width * language.config.num_hidden_layers
    # Only learned tokens reach the head.
    learned = float((batch.labels != IGNORE).sum())
    side = task.chat.image_size // vision.patch_size
    mlp = vision.encoder.layers[0].mlp.fc1.out_features
    tile = vit_flops(num_layers=vision.num_layers, width=vision.width, mlp=mlp, grid=(side, side))
    projector = sum(p.numel() for p in task.chat.mlp1.parameters()) * task.chat.num_image_token
    tokens = float(lengths.sum())
    forward = (
        2 * matrices * tokens + attention + 2 * head * learned + len(batch.tiles) * (tile + 2 * projector)
    )
    return 3 * forward


def step(task: ChatTuning, batch: ChatBatch, optimizer: torch.optim.Optimizer) -> Tensor:
    """Forward, backward and update; returns the loss."""
    with task.autocast(batch):
        loss = task.loss(batch, [])['loss']
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def optimizer_of(task: ChatTuning) -> torch.optim.Optimizer:
    """Fused AdamW of what trains."""
    trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=1e-5, fused=True)


def run(quick: bool = False) -> list[Row]:
    """Utilisation of full fine-tuning, then memory of adapters."""
    if not torch.cuda.is_available():
        raise SystemExit('gpu_chat_training needs a CUDA device; none is visible to torch')
    task = build('internvl2_2b', lora=False, device='cuda')
    batch, optimizer, rate = pack(task, 'cuda'), optimizer_of(task), matmul_rate(torch.bfloat16, 'cuda')
    seconds = interleave({'ours': lambda: step(task, batch, optimizer)}, rounds=3 if quick else 9, warmup=2)[
        'ours'
    ]
    second = sorted(seconds)[len(seconds) // 2]
    share = useful_flops(task, batch) / second / rate
    note = f'{batch.num_tokens / second:,.0f} tokens/s; product {rate / 1e12:.0f} TFLOP/s'
    what = '300M + 1.8B, all weights, 16k packed'
    rows = [Row(what, 'matrix product', share, 1, 'share', share, share, share, MFU_GOAL, note)]
    del task, batch, optimizer
    torch.cuda.empty_cache()
    task = build('internvl2_8b', lora=True, device='cuda')
    batch, optimizer = pack(task, 'cuda'), optimizer_of(task)
    torch.cuda.reset_peak_memory_stats()
    step(task, batch, optimizer)
    peak = torch.cuda.max_memory_allocated() / 1e9
    ratio = MEMORY_LIMIT / peak
    what = '8B, adapters of rank 16, 16k packed: peak memory'
    return [*rows, Row(what, 'card', peak, MEMORY_LIMIT, 'GB', ratio, ratio, ratio, 1.0)]
