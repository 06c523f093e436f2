"""InternVL-14B as transformers knows it: InternVL-C, InternVL-G and captions on one set of weights.

Shape letters: B images, T texts, Q queries, L text tokens, N patches, V width of the vision tokens, D width of QLLaMA,
E width of the joint space.
Source: InternVL-14B ``modeling_internvl.py``; Chen et al. 2023 (arXiv 2312.14238).
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import InternVLConfig, LlamaConfig, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init

from internvl_mm.models.by_content import ByContent
from internvl_mm.models.connectors.qllama import JointMask, QLlamaForCausalLM, additive_mask, joint_mask
from internvl_mm.models.hf_intern_vit import InternVisionConfig, InternVisionModel
from internvl_mm.models.layers import AttentionPool
from internvl_mm.models.necks import ClsPatchProjector
from internvl_mm.structures import VisionFeatures
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import ConfigError, DataError, did_you_mean

ImageMode = Literal['InternVL-C', 'InternVL-G']
ImagePool = Literal['attention', 'cls_patch']
# What published folders leave out or published code has as constants.
_PUBLISHED = dict(
    num_query_token=96,
    cross_attention_frequency=2,
    cross_attention_positions=96,
    cross_attention_width=3200,
)
IMAGE_MODES: tuple[ImageMode, ...] = get_args(ImageMode)


class InternVL14BConfig(PreTrainedConfig):
    """The published ``config.json`` of InternVL-14B; defaults are those of the published class.

    Its model type is also that of transformers' own InternVL, a chat model; the two are told apart by the
    ``qllama_config``. The folder's ``auto_map`` is dropped: it names Python files that are never run here.

    Args:
        vision_config: Settings of the InternViT.
        qllama_config: Settings of the Llama; where the outer settings below leave them out, also ``num_query_token``
            and ``cross_attention_frequency``.
        clip_embed_dim: Width E of the joint space.
        attn_pool_num_heads: Heads of both attention pools.
        num_query_token: Q; 96 where nothing says otherwise.
        label_smoothing: Of the published contrastive loss.
        cross_attention_frequency: Every how many layers QLLaMA looks at the image; 2 where nothing says otherwise.
        cross_attention_positions: How many positions look at the image, and how long a sequence must be for it. The
            constant 96 of the published code where nothing says otherwise; should be Q.
        cross_attention_width: Width of the vision tokens QLLaMA takes. The constant 3200 of the published code where
            nothing says otherwise; should be the width of the ViT.
        force_image_size: Side of the images in pixels when it is not the one of ``vision_config`` (364 in the
            retrieval models).
        image_pool: How ViT tokens become the embedding of InternVL-C: ``'attention'`` as published, or
            ``'cls_patch'``, class token and mean patch, with which small models learn sooner.
        initializer_range: Standard deviation of new weights.
        **kwargs: What every transformers configuration takes.

    Raises:
        ConfigError: A count below 1, or an unknown pool.

    Source: InternVL-14B ``configuration_internvl.py``.
    """

    model_type = 'internvl'
    is_composition = True
    has_no_defaults_at_init = False
    sub_configs = {'vision_config': InternVisionConfig, 'qllama_config': LlamaConfig}

    def __init__(
        self,
        vision_config: dict | InternVisionConfig | None = None,
        qllama_config: dict | LlamaConfig | None = None,
        clip_embed_dim: int = 768,
        attn_pool_num_heads: int = 16,  # of 200 channels over the ViT, of 256 over QLLaMA
        num_query_token: int | None = None,
        label_smoothing: float = 0.0,
        cross_attention_frequency: int | None = None,
        cross_attention_positions: int | None = None,
        cross_attention_width: int | None = None,
        force_image_size: int | None = None,
        image_pool: ImagePool = 'attention',
        initializer_range: float = 0.02,
        **kwargs: Any,
    ):
        if image_pool not in get_args(ImagePool):
            hint = did_you_mean(str(image_pool), get_args(ImagePool))
            raise ConfigError(f"image_pool={image_pool!r}: use 'attention' or 'cls_patch'.{hint}")
        vision = _as_config(vision_config, InternVisionConfig)
        qllama = _as_config(qllama_config, LlamaConfig)
        # Published classes keep the outer values, published folders the inner ones, and neither the last two.
        given = dict(
            num_query_token=num_query_token,
            cross_attention_frequency=cross_attention_frequency,
            cross_attention_positions=cross_attention_positions,
            cross_attention_width=cross_attention_width,
        )
        for name, constant in _PUBLISHED.items():
            setattr(qllama, name, given[name] or getattr(qllama, name, constant))
        check_counts(clip_embed_dim=clip_embed_dim, **{name: getattr(qllama, name) for name in _PUBLISHED})
        self.num_query_token = qllama.num_query_token
        self.vision_config, self.qllama_config = vision, qllama
        self.hidden_size = qllama.hidden_size
        self.clip_embed_dim = clip_embed_dim
        self.attn_pool_num_heads = attn_pool_num_heads
        self.label_smoothing = label_smoothing
        self.force_image_size = force_image_size
        self.image_pool = image_pool
        self.initializer_range = initializer_range
        # The width is that of the Llama; a stored copy could contradict it.
        for name in ('auto_map', 'hidden_size'):
            kwargs.pop(name, None)
        # Outer default of published folders; QLLaMA's embedding and head are two matrices.
        kwargs['tie_word_embeddings'] = False
        super().__init__(**kwargs)

    @property
    def image_size(self) -> int:
        """Side of the images the positions belong to, in pixels."""
        return self.force_image_size or self.vision_config.image_size


def _as_config(settings: Any, kind: type[PreTrainedConfig]) -> PreTrainedConfig:
    return settings if isinstance(settings, PreTrainedConfig) else kind(**(settings or {}))


class TokenPool(ClsPatchProjector):
    """Class token and mean patch of ViT tokens, norm and linear map: called as :class:`AttentionPool` is.

    Args:
        dim: Width V of the tokens.
        out_dim: Width E of the joint space.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, 1+N, V]`` to ``[B, E]``."""
        # The pool does not look at the grid.
        return super().forward(VisionFeatures(tokens, grid=(1, tokens.shape[1] - 1)))


class InternVL14BModel(PreTrainedModel):
    """The published model: ViT, QLLaMA and the heads between them.

    Text is given as ids with padding 0 on the right and an end token at the last place, which carries the embedding;
    :class:`~internvl_mm.preprocess.caption_tokens.CaptionTokenizer` makes such ids.

    Args:
        config: Sizes.
    """

    config_class = InternVL14BConfig
    main_input_name = 'pixel_values'
    base_model_prefix = ''
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ['Block', 'QLlamaDecoderLayer', 'AttentionPool']

    def __init__(self, config: InternVL14BConfig):
        super().__init__(config)
        vision, qllama = config.vision_config, config.qllama_config
        # Published weights at another size come with positions of that size.
        at_size = InternVisionConfig(**{**vision.to_diff_dict(), 'image_size': config.image_size})
        self.vision_model = InternVisionModel(at_size)
        self.qllama = QLlamaForCausalLM(qllama)
        self.query_tokens = nn.Parameter(torch.empty(1, config.num_query_token, qllama.hidden_size))
        # Applied as states @ text_projection, not as a linear layer.
        self.text_projection = nn.Parameter(torch.empty(qllama.hidden_size, config.clip_embed_dim))
        # Logarithm of the inverse temperature, as in CLIP, but never clamped, as published.
        self.logit_scale = nn.Parameter(torch.empty(()))
        pool = dict(num_heads=config.attn_pool_num_heads, out_dim=config.clip_embed_dim)
        self.clip_projector = (
            AttentionPool(vision.hidden_size, **pool)
            if config.image_pool == 'attention'
            else TokenPool(vision.hidden_size, out_dim=config.clip_embed_dim)
        )
        self.clip_projector2 = AttentionPool(qllama.hidden_size, **pool)
        # For every query, [B, Q, 2], averaged over queries; index 1 is "they belong together".
        self.itm_head = nn.Linear(qllama.hidden_size, 2)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            init.normal_(self.query_tokens, std=self.config.initializer_range)
            init.normal_(self.text_projection, std=self.config.qllama_config.hidden_size**-0.5)
            # CLIP's initial temperature 0.07.
            init.constant_(self.logit_scale, math.log(1 / 0.07))

    def get_input_embeddings(self) -> nn.Module:
        """Of the text."""
        return self.qllama.get_input_embeddings()

    # image

    def vision_states(self, pixel_values: Tensor) -> Tensor:
        """ViT tokens ``[B, 1+N, V]`` of normalised pixels, class token first, without a final norm."""
        return self.vision_model(pixel_values).last_hidden_state

    def query_states(self, vision: Tensor) -> Tensor:
        """What the queries saw: ``[B, Q, D]`` of ViT tokens ``[B, 1+N, V]``, after QLLaMA's final norm."""
        no_text = torch.ones(len(vision), 0, dtype=torch.bool, device=vision.device)  # [B, 0]
        return self._run(self.query_tokens.expand(len(vision), -1, -1), no_text, vision, 'matching')

    def get_image_features(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """Features of both image paths, before their pools.

        Args:
            pixel_values: Normalised pixels ``[B, 3, H, W]``.

        Returns:
            ViT tokens ``[B, 1+N, V]`` and query states ``[B, Q, D]``.
        """
        vision = self.vision_states(pixel_values)
        return vision, self.query_states(vision)

    def encode_image(self, image: Tensor, mode: ImageMode) -> Tensor:
        """Image embeddings ``[B, E]``, not normalised.

        Args:
            image: Normalised pixels ``[B, 3, H, W]``.
            mode: ``'InternVL-C'``: the pooled ViT. ``'InternVL-G'``: the sum of two unit vectors, the pooled ViT and
                the pooled queries.

        Raises:
            ConfigError: Another mode.
        """
        if mode not in IMAGE_MODES:
            hint = did_you_mean(str(mode), IMAGE_MODES)
            raise ConfigError(f'mode={mode!r} is unknown: use {" or ".join(map(repr, IMAGE_MODES))}.{hint}')
        vision = self.vision_states(image)  # [B, 1+N, V]
        pooled = self.clip_projector(vision)  # [B, E]
        if mode == 'InternVL-C':
            return pooled
        queries = self.clip_projector2(self.query_states(vision))  # [B, E]
        # Unit vectors, so that neither path outweighs the other; whoever compares normalises the sum.
        return F.normalize(pooled, dim=-1) + F.normalize(queries, dim=-1)

    # text

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Hidden state of every text token, for models that are conditioned on text (for example diffusion models).

        Args:
            input_ids: Token ids ``[T, L]``, padding 0 on the right.
            attention_mask: Which tokens are real, ``[T, L]``; those that are not 0 when left out.

        Returns:
            States ``[T, L, D]`` after the final norm; those at padding mean nothing.
        """
        real = input_ids > 0 if attention_mask is None else attention_mask.bool()  # bool [T, L]
        # Without queries this is a causal mask, and without an image no layer looks at one.
        return self._run(self.get_input_embeddings()(input_ids), real, None, 'generation')

    def encode_text(self, text: Tensor) -> Tensor:
        """Text embeddings ``[T, E]`` of ids ``[T, L]``, not normalised; the same for both image modes.

        Raises:
            DataError: The ids are padded at the left.
        """
        # Padding is id 0, whatever the tokenizer's own padding token.
        real = text > 0
        if bool(real[:, -1].all()) and not bool(real[:, 0].all()):
            # The place of the end token is counted from the left, so that another token would stand for the text.
            raise DataError(
                "text is padded at the left, InternVL-14B reads it from the left: set tokenizer.padding_side = 'right'"
            )
        return self.project_text(self.get_text_features(text, real), real)

    def project_text(self, states: Tensor, real: Tensor) -> Tensor:
        """Embeddings ``[T, E]`` from states ``[T, L, D]``: the state of the last real token (end of text)."""
        # Published: the number of real tokens - 1, so that an unknown token (id 0) inside a text moves the place.
        last = real.sum(dim=1) - 1
        return states[torch.arange(len(states), device=states.device), last] @ self.text_projection

    # both

    def forward(self, image: Tensor, text: Tensor, mode: ImageMode) -> tuple[Tensor, Tensor]:
        """Similarities of images and texts, scaled by the learned temperature.

        Args:
            image: Normalised pixels ``[B, 3, H, W]``.
            text: Token ids ``[T, L]``.
            mode: See :meth:`encode_image`.

        Returns:
            ``logits_per_image [B, T]`` and its transpose.
        """
        images = F.normalize(self.encode_image(image, mode), dim=-1)  # [B, E]
        texts = F.normalize(self.encode_text(text), dim=-1)  # [T, E]
        logits = self.logit_scale.exp() * images @ texts.t()  # [B, T]
        return logits, logits.t()

    def joint_states(
        self, vision: Tensor, texts: list[tuple[Tensor, JointMask]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Queries and several texts per image through QLLaMA, in one batch.

        Args:
            vision: ViT tokens ``[B, 1+N, V]``.
            texts: Ids ``[B, L]``, of one length, and how each text and the queries see each other.

        Returns:
            Per text, query states ``[B, Q, D]`` and text states ``[B, L, D]``.
        """
        queries = self.query_tokens.expand(len(vision), -1, -1)  # [B, Q, D]
        # Each [B, Q+L, D]; together [r·B, Q+L, D], text by text, which cross-attention relies on.
        embeds = [torch.cat([queries, self.get_input_embeddings()(ids)], dim=1) for ids, _ in texts]
        masks = [joint_mask(ids > 0, queries.shape[1], kind) for ids, kind in texts]
        states = self._forward_qllama(torch.cat(embeds), torch.cat(masks), vision)  # [r·B, Q+L, D]
        halves = states.tensor_split([queries.shape[1]], dim=1)
        # [r·B, Q, D] and [r·B, L, D] to r pairs.
        return list(zip(*(half.chunk(len(texts)) for half in halves), strict=True))

    @torch.no_grad()
    def generate(
        self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any
    ) -> Tensor:
        """Caption images.

        Args:
            pixel_values: Normalised pixels ``[B, 3, H, W]``.
            input_ids: The prompt per image ``[B, L]``, without end token.
            attention_mask: Which tokens are real; those that are not 0 when left out.
            **options: Of transformers' ``generate``, such as ``num_beams`` and ``max_new_tokens``.

        Returns:
            New token ids ``[B, n]``, without the prompt.

        Raises:
            DataError: There are more or fewer prompts than images.
        """
        if len(input_ids) != len(pixel_values):
            raise DataError(
                f'input_ids has {len(input_ids)} prompts for {len(pixel_values)} images: give one per image, such as '
                'input_ids.expand(len(pixel_values), -1) of one for all'
            )
        vision = self.vision_states(pixel_values)
        queries = self.query_tokens.expand(len(vision), -1, -1)  # [B, Q, D]
        real = (input_ids > 0) if attention_mask is None else attention_mask.bool()
        return self.qllama.generate(
            inputs_embeds=torch.cat([queries, self.get_input_embeddings()(input_ids)], dim=1),
            # Queries are always real.
            attention_mask=torch.cat([real.new_ones(queries.shape[:2]), real], dim=1).long(),
            vision_hidden_states=vision,  # generate repeats it for every beam
            **options,
        )

    def _run(self, embeds: Tensor, real: Tensor, vision: Tensor | None, kind: JointMask) -> Tensor:
        """Queries ``[B, Q, D]`` alone, or text ``[T, L, D]`` alone."""
        return self._forward_qllama(embeds, joint_mask(real, embeds.shape[1] - real.shape[1], kind), vision)

    def _forward_qllama(self, embeds: Tensor, allowed: Tensor, vision: Tensor | None) -> Tensor:
        # Positions count from 0 in every mode; they are relative, so that text after queries is no different.
        return self.qllama.model(
            inputs_embeds=embeds,
            attention_mask=additive_mask(allowed, embeds.dtype),
            vision_hidden_states=vision,
            use_cache=False,
        ).last_hidden_state


class InternVLByContent(ByContent):
    """What ``'internvl'`` means to ``AutoConfig``: ours when there is a ``qllama_config``, else transformers' own."""

    model_type = InternVL14BConfig.model_type
    marker, ours, theirs = 'qllama_config', InternVL14BConfig, InternVLConfig
