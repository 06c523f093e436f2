"""Sizes of a model of any size, without weights, data or GPUs: what :mod:`~internvl_mm.engine.memory` computes with.

The model is built of fake tensors, which have sizes and no values. Activations are counted per block, by running the
block once on fake tensors under bf16 autocast, times the number of blocks; where they are recomputed, one block and the
inputs of all (4 bytes per value). Of a chat model the logits of one chunk of tokens and their gradient come on top, 8
bytes per value. Heads of classifiers are small beside that and are left out; decoders and detectors are not, so those
tasks are measured (``tools/train.py --dry-run``), not planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from internvl_mm.engine.hooks import EMAHook
from internvl_mm.engine.memory import SavedBytes, Sizes, held_bytes, state_per_value
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.models.tasks.chat_tuning import ChatTuning
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import ConfigError

_MEASURED = 'take tools/train.py --dry-run, which measures one batch'


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
    # [B, h·w + 1, D], fp32 as the residual stream is under autocast.
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
    states = torch.randn(batch, tokens, task.width, requires_grad=True)  # [B, L, D]
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
    """Most tokens and tiles of a row.

    Raises:
        ConfigError: The config does not say them.
    """
    data = cfg.train_dataloader.dataset
    if 'max_tokens' in data:  # packed rows
        return data.max_tokens, data.max_tiles
    encoder = data.get('encoder') or {}
    tokens, tiles = encoder.get('max_length'), (encoder.get('tiling') or {}).get('max_num')
    if tokens is None or tiles is None:
        raise ConfigError(
            'train_dataloader.dataset cannot be planned without its longest row: set encoder.max_length and '
            f'encoder.tiling.max_num (of packed rows max_tokens and max_tiles), or {_MEASURED}'
        )
    return tokens, tiles + 1  # a thumbnail comes on top of several tiles


def logits_bytes(task: nn.Module) -> float:
    """Bytes of the logits of one chunk of tokens and of their gradient, in fp32; 0 without a language model."""
    if not isinstance(task, ChatTuning):
        return 0.0
    head = task.chat.language_model.get_output_embeddings()
    # Two of them, of 4 bytes per value.
    return 2 * 4.0 * head.chunk * head.weight.shape[0]  # [chunk, V]


def read_towers(
    cfg: Config, *, precision: torch.dtype | None = torch.bfloat16
) -> tuple[nn.Module, list[Tower]]:
    """The model of a config, of fake tensors, and the towers its batch goes through; see :func:`read_sizes`."""
    batch = cfg.train_dataloader.get('batch_size', 1)
    with torch.device('meta'):
        task = MODELS.build(_without_weights(cfg.model.to_dict()))
    chat = isinstance(task, ChatTuning)
    if not chat and not (isinstance(task, ImageClassifier) and hasattr(task.backbone, 'encoder')):
        raise ConfigError(
            f'{type(task).__name__} cannot be planned: plans know classifiers with an InternViT and chat models; '
            + _MEASURED
        )
    if chat:
        # What trains, and what autograd keeps, depends on the adapters.
        task.adapt()
    with _fake_world(precision):
        # Inside: tensors of the CPU by name, so that its kernels are the ones that run, and still without memory.
        task.to_empty(device='cpu')
        return task, chat_towers(task, cfg, batch) if chat else image_towers(task, cfg, batch)


def read_sizes(cfg: Config, *, precision: torch.dtype | None = torch.bfloat16) -> Sizes:
    """Build the model of a config without values, and count.

    Args:
        cfg: A config of classification or chat.
        precision: Of autocast; ``None`` computes in fp32.

    Raises:
        ConfigError: The config trains nothing, another task, or data whose longest row it does not say.
    """
    if cfg.get('optim_wrapper') is None:
        raise ConfigError(f'{cfg.filename} has no optim_wrapper: it trains nothing that could be shared out')
    task, towers = read_towers(cfg, precision=precision)
    # By the config: a plan builds no runner, hence no hooks.
    averages = any(hook.type is EMAHook for hook in cfg.get('custom_hooks') or ())
    return Sizes.of(
        task,
        state_values=state_per_value(cfg.optim_wrapper.optimizer),
        activations=sum(tower.activations for tower in towers) + logits_bytes(task),
        averaged=held_bytes(p for p in task.parameters() if p.requires_grad) if averages else 0,
    )


def _without_weights(settings: Any) -> Any:
    """Settings of a model that starts from nothing: files need not be at hand."""
    if isinstance(settings, dict):
        return {k: _without_weights(v) for k, v in settings.items() if not str(k).startswith('pretrained')}
    if isinstance(settings, (list, tuple)):
        return type(settings)(map(_without_weights, settings))
    return settings
