"""What a run of any size will need per GPU, for each strategy, without weights, data or GPUs.

The model is built of fake tensors, which have sizes and no values. In bytes per GPU, of P parameters of which T train,
on n GPUs:

* weights 4·P, gradients 4·T, AdamW 8·T, each divided by n where the strategy shares it (ZeRO 1: AdamW; 2: also
  gradients; 3 and FSDP: also weights); offloading moves AdamW, in stage 3 also the weights, to the host;
* activations: per block what autograd keeps, counted by running the block once on fake tensors under bf16 autocast;
  times the number of blocks, or, where they are recomputed, one block and the inputs of all (4 bytes per value);
* buffers: ZeRO exchanges gradients in buckets of at most 5e8 values; stage 3 also keeps at most 1e9 gathered values
  (DeepSpeed's defaults), FSDP two blocks;
* logits: those of one chunk of tokens, with their gradient, 8 bytes per value.

Workspaces of kernels and the allocator's slack come on top: leave a tenth free.

Source: Rajbhandari et al. 2020, "ZeRO" (arXiv 1910.02054), section 3; defaults of DeepSpeed 0.19.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from internvl_mm.engine.dry_run import Memory, SavedBytes, estimate_memory, state_per_value
from internvl_mm.models.losses.chunked_cross_entropy import CHUNK
from internvl_mm.models.tasks.chat_tuning import ChatTuning
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import ConfigError
from internvl_mm.utils.parameters import find_blocks, numel

GIB = 2**30
FORMULAS = (
    'bytes per GPU of n, with P parameters of which T train: weights 4·P, gradients 4·T, AdamW 8·T, each / n where it '
    'is shared; activations: counted for one block, x blocks (recomputed: one block and 4 bytes per value of each '
    "block's input); buffers of exchange and one chunk of logits are counted as activations"
)
_BUCKET, _LIVE = 5e8, 1e9  # values; reduce_bucket_size, stage3_max_live_parameters of DeepSpeed
# Name of a strategy file → what it shares and whether it offloads.
STRATEGIES: dict[str, dict[str, Any]] = dict(
    ddp=dict(zero_stage=0),
    zero1=dict(zero_stage=1),
    zero2=dict(zero_stage=2),
    zero3=dict(zero_stage=3),
    fsdp2=dict(zero_stage=3),
    zero3_offload=dict(zero_stage=3, offload=True),
)


@dataclass(frozen=True)
class Tower:
    """Equal blocks that a batch goes through.

    Attributes:
        blocks: How many.
        block_bytes: What autograd keeps of one.
        input_bytes: Its input in fp32.
        recomputed: Whether only inputs are kept.
        trains: Whether anything in or before it does; else nothing is kept.
    """

    blocks: int
    block_bytes: int
    input_bytes: int
    recomputed: bool
    trains: bool

    @property
    def activations(self) -> float:
        """Bytes kept for the backward pass."""
        if not self.trains:
            return 0.0
        if self.recomputed:
            return self.blocks * self.input_bytes + self.block_bytes
        return self.blocks * self.block_bytes


def measure_block(block: nn.Module, inputs: Tensor, call: Callable[[Tensor], Any] | None = None) -> int:
    """Bytes autograd keeps of a block for one input ``[B, N, D]``."""
    with SavedBytes(block) as saved:
        outputs = (call or block)(inputs)  # holds on to what is counted
    del outputs
    return saved.total


@contextmanager
def _fake_world(precision: torch.dtype | None) -> Iterator[None]:
    # Parameters come from the meta device, whose own attention kernel is another than that of devices.
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, torch.autocast('cpu', dtype=precision, enabled=precision is not None):
        yield


def image_towers(task: nn.Module, cfg: Config, batch: int) -> list[Tower]:
    """The backbone of a task of images."""
    vision = task.backbone
    size = cfg.model.backbone.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return [_vision_tower(vision, batch, (height // vision.patch_size, width // vision.patch_size))]


def _vision_tower(vision: nn.Module, images: int, grid: tuple[int, int]) -> Tower:
    blocks = list(vision.encoder.layers)
    # Patches and the class token.
    inputs = torch.randn(images, grid[0] * grid[1] + 1, blocks[0].mlp.fc1.in_features, requires_grad=True)
    return Tower(
        blocks=len(blocks),
        block_bytes=measure_block(blocks[0], inputs, lambda x: blocks[0](x, grid)),
        input_bytes=4 * inputs.numel(),
        recomputed=vision.encoder.gradient_checkpointing,
        trains=any(parameter.requires_grad for parameter in vision.parameters()),
    )


def chat_towers(task: ChatTuning, cfg: Config, batch: int) -> list[Tower]:
    """Vision tower and language model of a chat model at the longest row its data can give."""
    tokens, tiles = _row_limits(cfg)
    side = task.chat.image_size // task.chat.vision_model.patch_size
    vision = _vision_tower(task.chat.vision_model, batch * tiles, (side, side))
    language = task.chat.language_model.model
    states = torch.randn(batch, tokens, task.width, requires_grad=True)
    # Cosines and sines; what scaled positions compute them from depends on values, of which there are none.
    angles = tuple(torch.randn(1, tokens, 2 * len(language.rotary_emb.inv_freq)) for _ in range(2))
    layer = language.layers[0]
    layer.gradient_checkpointing = False  # count what one keeps while it is computed again
    kept = measure_block(
        layer, states, lambda x: layer(x, attention_mask=None, position_embeddings=angles, use_cache=False)
    )
    text = Tower(
        blocks=len(language.layers),
        block_bytes=kept,
        input_bytes=4 * states.numel(),
        recomputed=task.parts['language_model'].checkpointing,
        trains=True,  # gradients reach the projector through it even if it is frozen
    )
    return [vision, text]


def _row_limits(cfg: Config) -> tuple[int, int]:
    """Most tokens and tiles of a row."""
    data = cfg.train_dataloader.dataset
    if 'max_tokens' in data:
        return data.max_tokens, data.max_tiles
    # A thumbnail comes on top of several tiles.
    return data.encoder.max_length, data.encoder.tiling.max_num + 1


@dataclass(frozen=True)
class Sizes:
    """A model and its batch, ready for the formulas.

    Attributes:
        task: Of fake tensors.
        towers: What activations come from.
        state_values: See :func:`~internvl_mm.engine.dry_run.state_per_value`.
        vocabulary: Of the head of a language model, 0 without.
    """

    task: nn.Module
    towers: list[Tower]
    state_values: float
    vocabulary: int

    @property
    def activations(self) -> float:
        """Bytes of the batch of one GPU, logits included."""
        return sum(tower.activations for tower in self.towers) + 8.0 * CHUNK * self.vocabulary

    def buffers(self, strategy: str, gpus: int) -> float:
        """Bytes for exchange between GPUs."""
        parameters = list(self.task.parameters())
        trainable = sum(numel(p) for p in parameters if p.requires_grad)
        if gpus == 1:
            return 0.0
        if strategy == 'fsdp2':
            largest = max(
                (sum(map(numel, block.parameters())) for block in find_blocks(self.task)), default=0
            )
            return 2 * 4.0 * largest
        bucket = 4.0 * min(_BUCKET, trainable)
        if STRATEGIES[strategy]['zero_stage'] == 3:
            return bucket + 4.0 * min(_LIVE, sum(map(numel, parameters)))
        return bucket

    def memory(self, strategy: str, gpus: int) -> Memory:
        """Bytes per GPU; buffers count as activations."""
        shared = estimate_memory(
            self.task,
            state_values=self.state_values,
            activations=self.activations,
            world_size=gpus,
            **STRATEGIES[strategy],
        )
        return replace(shared, activations=shared.activations + self.buffers(strategy, gpus))


def read_sizes(cfg: Config, *, precision: torch.dtype | None = torch.bfloat16) -> Sizes:
    """Build the model of a config without values, and count.

    Args:
        cfg: A config of classification, segmentation, detection or chat.
        precision: Of autocast; ``None`` computes in fp32.

    Raises:
        ConfigError: The model has no backbone of equal blocks and is no chat model.
    """
    settings = _without_weights(cfg.model.to_dict())
    batch = cfg.train_dataloader.get('batch_size', 1)
    with torch.device('meta'):
        task = MODELS.build(settings)
    if isinstance(task, ChatTuning):
        task.adapt()
    with _fake_world(precision):
        task.to_empty(device='cpu')
        if isinstance(task, ChatTuning):
            towers, vocabulary = chat_towers(task, cfg, batch), task.chat.language_model.config.vocab_size
        elif hasattr(getattr(getattr(task, 'backbone', None), 'encoder', None), 'layers'):
            towers, vocabulary = image_towers(task, cfg, batch), 0
        else:
            raise ConfigError(
                f'{type(task).__name__} cannot be planned: plans know models with an InternViT backbone and chat '
                'models; take tools/train.py --dry-run, which measures one batch'
            )
    return Sizes(task, towers, state_per_value(cfg.optim_wrapper.optimizer), vocabulary)


def _without_weights(settings: Any) -> Any:
    """Settings of a model that starts from nothing: files need not be at hand."""
    if isinstance(settings, dict):
        return {k: _without_weights(v) for k, v in settings.items() if not str(k).startswith('pretrained')}
    if isinstance(settings, (list, tuple)):
        return type(settings)(map(_without_weights, settings))
    return settings


def plan_rows(sizes: Sizes, gpus: Sequence[int]) -> list[tuple[Any, ...]]:
    """Strategy, GPUs, then GiB per GPU: weights, gradients, optimiser, activations and buffers, all; GiB of host."""
    rows = []
    for strategy in STRATEGIES:
        for count in gpus:
            memory = sizes.memory(strategy, count)
            parts = (memory.weights, memory.gradients, memory.optimizer, memory.activations, memory.device)
            # The host of a node holds what all of its GPUs offload: 8 of them, or fewer.
            host = memory.host * min(count, 8)
            rows.append((strategy, count, *(part / GIB for part in parts), host / GIB))
    return rows
