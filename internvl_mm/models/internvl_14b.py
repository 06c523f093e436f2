"""InternVL-14B as a part to train: sizes, weights to start from, what trains, adapters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from internvl_mm.models.connectors.qllama import llama_problems, unknown_settings
from internvl_mm.models.convert.files import read_json
from internvl_mm.models.convert.internvl_14b import cross_attention_settings, load_internvl_14b
from internvl_mm.models.hf_intern_vit import InternVisionConfig
from internvl_mm.models.hf_internvl_14b import ImagePool, InternVL14BConfig, InternVL14BModel
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import ConfigError, did_you_mean
from internvl_mm.utils.paths import ExistingPath

TrainablePart = Literal[
    'vision', 'image_pool', 'llama', 'cross_attention', 'queries', 'query_pool',
    'matching_head', 'text_projection', 'language_head', 'temperature',
]  # fmt: skip
_PART_NAMES: tuple[str, ...] = get_args(TrainablePart)
# Which tensors each part is, the first that fits.
_PARTS: tuple[tuple[TrainablePart, str], ...] = (
    ('vision', r'vision_model\.'),  # 5.9 billion values
    ('image_pool', r'clip_projector\.'),  # pools [B, 1+N, 3200] to [B, 768]
    ('query_pool', r'clip_projector2\.'),  # pools [B, 96, 4096] to [B, 768]
    ('cross_attention', r'qllama\..*\.cross_attn\.'),  # in every second layer: 16 of 32
    ('language_head', r'qllama\.lm_head\.'),  # [V, 4096]
    ('llama', r'qllama\.'),
    ('queries', r'query_tokens$'),  # [1, 96, 4096]
    ('matching_head', r'itm_head\.'),  # 4096 to 2
    ('text_projection', r'text_projection$'),  # [4096, 768]
    ('temperature', r'logit_scale$'),  # a scalar, its logarithm
)
# Published targets; cross-attention is not among them.
_LORA_TARGETS = dict(
    vision=r'vision_model\..*\.(attn\.(qkv|proj)|mlp\.(fc1|fc2))',
    qllama=r'qllama\..*\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)',
)


def part_of(name: str) -> TrainablePart:
    """The part a tensor of :class:`InternVL14BModel` belongs to."""
    return next(part for part, pattern in _PARTS if re.match(pattern, name))


@MODELS.register_module()
class InternVL14B(InternVL14BModel):
    """InternVL-14B of any size, to train.

    Args:
        vision: Settings of the InternViT under their published names.
        qllama: Settings of the Llama under their published names.
        num_query_token: Queries.
        cross_attention_frequency: Every how many layers QLLaMA looks at the image.
        clip_embed_dim: Width of the joint space.
        attn_pool_num_heads: Heads of both attention pools.
        image_size: Side of the images in pixels; left out, that of ``vision``. Positions are resampled when loading.
        image_pool: See :class:`~internvl_mm.models.hf_internvl_14b.InternVL14BConfig`; that of stage 1.
        pretrained: Weights to start from: a published folder, or those of the contrastive stage (the original
            InternVL-C file, or a checkpoint of ours), whose missing parts then start new.
        trainable: Parts that train; all when left out.
        vision_lora: Rank of adapters in the ViT, 0 for none; alpha is twice the rank, dropout 0.05, as published.
        qllama_lora: Rank of adapters in QLLaMA.
        gradient_checkpointing: Recompute activations of both towers.

    Raises:
        ConfigError: A part that does not exist, or nothing trains.
    """

    def __init__(
        self,
        *,
        vision: dict,
        qllama: dict,
        num_query_token: int = 96,
        cross_attention_frequency: int = 2,
        clip_embed_dim: int = 768,
        attn_pool_num_heads: int = 16,
        image_size: int | None = None,
        image_pool: ImagePool = 'attention',
        pretrained: ExistingPath | None = None,
        trainable: Sequence[TrainablePart] | None = None,
        vision_lora: int = 0,
        qllama_lora: int = 0,
        gradient_checkpointing: bool = False,
    ):
        config = InternVL14BConfig(
            vision_config=vision,
            qllama_config=qllama,
            clip_embed_dim=clip_embed_dim,
            attn_pool_num_heads=attn_pool_num_heads,
            num_query_token=num_query_token,
            cross_attention_frequency=cross_attention_frequency,
            # The published constants, were they not constants.
            cross_attention_positions=num_query_token,
            cross_attention_width=InternVisionConfig(**vision).hidden_size,
            force_image_size=image_size,
            image_pool=image_pool,
        )
        super().__init__(config)
        self.pretrained = pretrained
        if gradient_checkpointing:
            # Keeps gradients of adapters and queries when what is before them is frozen.
            self.gradient_checkpointing_enable({'use_reentrant': False})
        self.trainable = tuple(_PART_NAMES if trainable is None else trainable)
        self._ranks = dict(vision=vision_lora, qllama=qllama_lora)
        self._freeze()
        self._adapt()

    # While super().__init__ runs, which calls init_weights already.
    pretrained: str | None = None

    @classmethod
    def check_config(cls, *, vision: dict, qllama: dict, **others: Any) -> list[str]:
        """What is wrong with the settings."""
        del others
        known = set(inspect.signature(InternVisionConfig).parameters) - {'kwargs'}
        return unknown_settings('vision', vision, known) + llama_problems('qllama', qllama)

    def init_weights(self) -> None:
        """Load ``pretrained``, if given; adapters start without effect.

        transformers calls this when the model is made, and mmengine before training.
        """
        if self.pretrained is None:
            super().init_weights()
            return
        # The file's names are those of a model without adapters; this one costs no memory.
        with torch.device('meta'):
            plain = InternVL14BModel(self.config)
        load_internvl_14b(plain, self.pretrained, allow_new=True)
        loaded = plain.state_dict()
        for name, own in self.state_dict().items():
            tensor = loaded.get(name.replace('.base_layer.', '.'))
            if tensor is not None and not tensor.is_meta:  # adapters and new parts keep what they have
                own.copy_(tensor)

    def _freeze(self) -> None:
        for part in self.trainable:
            if part not in _PART_NAMES:
                hint = did_you_mean(str(part), _PART_NAMES)
                raise ConfigError(
                    f'trainable={self.trainable}: {part!r} is no part, use {", ".join(_PART_NAMES)}.{hint}'
                )
        if not self.trainable and not any(self._ranks.values()):
            raise ConfigError('trainable=() and no adapters: nothing would train')
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(part_of(name) in self.trainable)

    def _adapt(self) -> None:
        ranks = {_LORA_TARGETS[tower]: rank for tower, rank in self._ranks.items() if rank}
        if not ranks:
            return
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        lora = LoraConfig(
            target_modules='|'.join(f'({pattern})' for pattern in ranks),
            # Alpha is twice each tower's own rank; published code took the ViT's for both.
            rank_pattern=ranks,
            alpha_pattern={pattern: 2 * rank for pattern, rank in ranks.items()},
            lora_dropout=0.05,
        )
        inject_adapter_in_model(lora, self)
        for name, parameter in self.named_parameters():  # peft freezes everything else
            parameter.requires_grad_('.lora_' in name or name.replace('.base_layer.', '.') in trained)

    def train(self, mode: bool = True) -> Any:
        """Set the mode; a frozen ViT stays in evaluation mode, without drop path."""
        super().train(mode)
        if 'vision' not in self.trainable and not self._ranks['vision']:
            self.vision_model.eval()
        return self


@MODELS.register_module()
class PublishedInternVL14B(InternVL14BModel):
    """InternVL-14B as a published folder has it, of whatever size, with its weights.

    Args:
        path: The folder, with ``config.json``.

    Raises:
        CheckpointError: Damaged, or weights that do not fit the config.
    """

    def __init__(self, path: ExistingPath):
        folder = Path(path)
        settings = {**read_json(folder / 'config.json'), **cross_attention_settings(folder)}
        # Built without memory; the tensors of the files become its parameters.
        with torch.device('meta'):
            super().__init__(InternVL14BConfig.from_dict(settings))
        fill_published(self, folder)
        self._is_filled = True

    # While super().__init__ runs, nothing is loaded yet.
    _is_filled = False

    def init_weights(self) -> None:
        """Keep what was loaded: mmengine asks every part to start its weights."""
        if not self._is_filled:
            super().init_weights()


def fill_published(model: InternVL14BModel, folder: Path) -> None:
    """Load a published folder into a model made on the meta device."""
    load_internvl_14b(model, folder)
    # The one buffer that is in no file.
    model.qllama.model.rotary_emb = LlamaRotaryEmbedding(model.config.qllama_config)


def count_trainable(model: nn.Module) -> tuple[int, int]:
    """Numbers of parameters: those that train, and all."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)
