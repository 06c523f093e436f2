"""LLaVA-style InternVL-Chat folders as transformers models: InternVL-Chat-13B, 19B, 19B-448px, and the QLLaMA glue."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, LlavaConfig, PreTrainedConfig, PreTrainedModel

from internvl_mm.preprocess.chat_spliced import PLACE, SplicedTextEncoder
from internvl_mm.preprocess.chat_text import IMAGE, ChatTextEncoder
from internvl_mm.preprocess.conversation import chat_template
from internvl_mm.utils.errors import CheckpointError, ConfigError, DataError

from .by_content import ByContent
from .chat_generation import ChatGeneration, Prompt
from .chat_prompt import IMAGE_TOKENS, ImageTokens
from .connectors import BaseConnector, LlavaMlp, QLlamaQueries, QueryGlue
from .convert.files import open_weights, stored_dtype
from .convert.llava import GLUE, from_llava, projector_depth, to_llava, tower_settings
from .hf_intern_vit import InternVisionConfig, InternVisionModel
from .language.families import published_settings

_TEMPLATE = 'vicuna_v1'  # of every published folder
# Side of a tile by the side of the position table: published code asks for "448" in the path of the tower instead.
_SIDE = {224: 336}


class LlavaChatConfig(PreTrainedConfig):
    """The published ``config.json``: a Llama's settings with those of the vision part (``mm_…``) among them.

    Args:
        vision_config: Of the InternViT; no published folder has it, loading reads it off the weights.
        qllama_config: Of the QLLaMA of the glue; the same.
        **settings: Of the Llama, and ``mm_projector_type``, ``mm_vision_select_layer`` (−2 when left out, as in
            LLaVA), ``mm_hidden_size``, ``image_aspect_ratio``, ``template``, ``force_image_size`` and
            ``system_message``.

    Source: LLaVA ``llava_llama.py``; InternVL ``internvl_chat_llava``.
    """

    model_type = 'llava'
    sub_configs = {'vision_config': InternVisionConfig}

    def __init__(
        self,
        vision_config: Mapping[str, Any] | InternVisionConfig | None = None,
        qllama_config: Mapping[str, Any] | None = None,
        **settings: Any,
    ):
        if isinstance(vision_config, Mapping):
            vision_config = InternVisionConfig(
                **{k: v for k, v in vision_config.items() if k != 'model_type'}
            )
        self.vision_config = vision_config
        self.qllama_config = None if qllama_config is None else dict(qllama_config)
        # Never run; made below; said by the class; asked for when a model is loaded.
        for name in ('auto_map', 'llm_config', 'model_type', 'attn_implementation'):
            settings.pop(name, None)
        # Facts about the file rather than the Llama, though LlamaConfig knows the names, too.
        foreign = ('architectures', 'dtype', 'torch_dtype', 'transformers_version')
        # transformers 5 keeps the last two in rope_parameters, but takes the names of old files.
        known = {*LlamaConfig().to_dict(), 'rope_theta', 'rope_scaling'}
        language = {name: value for name, value in settings.items() if name in known and name not in foreign}
        self.llm_config = LlamaConfig(**{**language, 'tie_word_embeddings': False})
        # LLaVA's own defaults.
        settings.setdefault('mm_projector_type', 'linear')
        settings.setdefault('mm_vision_select_layer', -2)  # InternVL's folders say -4
        settings.setdefault('template', _TEMPLATE)
        kept = {name: value for name, value in settings.items() if name not in language}
        super().__init__(**{**kept, 'tie_word_embeddings': False})
        self.hidden_size = self.llm_config.hidden_size

    @property
    def image_size(self) -> int:
        """Side of a picture in pixels."""
        table = self.vision_config.image_size
        return getattr(self, 'force_image_size', None) or _SIDE.get(table, table)

    def get_text_config(self, *args: Any, **kwargs: Any) -> PreTrainedConfig:
        """The Llama's part, which transformers asks for lengths and caches."""
        del args, kwargs
        return self.llm_config

    def to_dict(self) -> dict[str, Any]:
        """The settings in one row, as published."""
        outer = super().to_dict()
        outer.pop('llm_config', None)
        language = {
            k: v for k, v in published_settings(self.llm_config).items() if k not in ('architectures',)
        }
        # What LLaVA's own code looks up a class by.
        fixed = dict(model_type=self.model_type, architectures=['LlavaLlamaForCausalLM'])
        return {**language, **outer, **fixed}

    def to_diff_dict(self) -> dict[str, Any]:
        """All settings: a reader's defaults are not always ours."""
        return self.to_dict()


class LlavaChatModel(ChatGeneration, PreTrainedModel):
    """A LLaVA-style chat model of our parts, with the published layout on disk.

    Images have no tokens in the vocabulary: their visual tokens are spliced in where the text says ``<image>``.

    Args:
        config: Sizes, projector and template.

    Raises:
        ConfigError: The vision tower is not described, or a hidden state that does not exist.
    """

    config_class = LlavaChatConfig
    config: LlavaChatConfig
    main_input_name = 'pixel_values'
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules = ['Block']

    def __init__(self, config: LlavaChatConfig):
        super().__init__(config)
        vision = config.vision_config
        if vision is None:
            raise ConfigError(
                'vision_config is missing, as in published folders: load them with from_pretrained or '
                'internvl_mm.load_model, which read it off the weights'
            )
        self.select_layer = config.mm_vision_select_layer
        # One state more than blocks: the embeddings are number 0.
        if not -vision.num_hidden_layers - 1 <= self.select_layer <= vision.num_hidden_layers:
            raise ConfigError(
                f'mm_vision_select_layer={self.select_layer}: the vision tower has hidden states 0 to '
                f'{vision.num_hidden_layers}'
            )
        self.vision_model = InternVisionModel(vision)
        self.language_model = LlamaForCausalLM(config.llm_config)
        self.mlp1 = _projector(config)
        self.conv_template = chat_template(config.template)
        stored = getattr(config, 'system_message', None)
        self.system_message = self.conv_template.system_message if stored is None else stored
        # -200, LLaVA's mark: no id of the vocabulary, so that no text can contain it.
        self.img_context_token_id = PLACE
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The language model's."""
        return self.language_model.get_input_embeddings()

    def text_encoder(self, tokenizer: Any, system_message: str) -> ChatTextEncoder:
        """See :class:`~internvl_mm.preprocess.chat_spliced.SplicedTextEncoder`."""
        return SplicedTextEncoder(tokenizer, self._template(), system_message=system_message)

    def context_id(self, tokenizer: Any, token: str = '') -> int:
        """What stands in the ids for a visual token."""
        del tokenizer, token
        return PLACE

    def _prompt_ids(self, tokenizer: Any, prompt: Prompt, image_tokens: ImageTokens) -> list[int]:
        if not self.published_text:
            return super()._prompt_ids(tokenizer, prompt, IMAGE_TOKENS)
        text = prompt.template.render(prompt.turns, prompt.system_message)
        # Each part is tokenised with the token that begins a text, which is then kept of the first alone.
        parts = [tokenizer(part).input_ids for part in text.split(IMAGE)]
        if len(parts) != len(prompt.tiles) + 1:
            raise DataError(f'the conversation has {len(parts) - 1} {IMAGE} for {len(prompt.tiles)} images')
        begin = len(tokenizer('').input_ids)  # 1 for Llama's <s>
        ids = list(parts[0])
        for count, part in zip(prompt.tiles, parts[1:], strict=True):
            ids += [PLACE] * (count * self.num_image_token) + part[begin:]
        return ids

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike | None, *args: Any, **kwargs: Any
    ) -> LlavaChatModel:
        """Load a folder of the published layout; what its config leaves out is read off the weights.

        Args:
            pretrained_model_name_or_path: The folder.
            *args: Passed on.
            **kwargs: Of transformers, such as ``dtype`` and ``device_map``.

        Raises:
            CheckpointError: Tensors are missing, unknown or of another shape.
        """
        folder = Path(str(pretrained_model_name_or_path))
        if not folder.is_dir():
            raise CheckpointError(
                f'{folder} is no folder: download it first, or use internvl_mm.load_model, which does'
            )
        config = kwargs.pop('config', None) or cls.config_class.from_pretrained(folder)
        if config.vision_config is None:
            # Published configs name a folder of the tower on the authors' disk instead of its sizes.
            config = LlavaChatConfig(**{**config.to_dict(), **tower_settings(folder)})
        weights = open_weights(folder)
        state = {ours: weights[theirs] for theirs, ours in from_llava(weights).items()}
        _check(folder, cls, config, state)
        if kwargs.get('dtype') == 'auto':
            # As the files have what the model takes: their config.json may say another.
            kwargs['dtype'] = stored_dtype(state) or 'auto'
        return super().from_pretrained(None, *args, config=config, state_dict=state, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Write the published layout.

        Args:
            save_directory: Folder.
            *args: Passed on.
            **kwargs: Of transformers.
        """
        state = kwargs.pop('state_dict', None) or self.state_dict()
        # Back to the published names, so that LLaVA's own code reads the folder.
        published = {theirs: state[ours] for ours, theirs in to_llava(state).items()}
        super().save_pretrained(save_directory, *args, state_dict=published, **kwargs)


class LlavaByContent(ByContent):
    """What ``'llava'`` means to ``AutoConfig``: ours when the settings name a vision tower as LLaVA's own code does."""

    model_type = LlavaChatConfig.model_type
    marker, ours, theirs = 'mm_vision_tower', LlavaChatConfig, LlavaConfig


def _projector(config: LlavaChatConfig) -> BaseConnector:
    vision, width = config.vision_config, config.llm_config.hidden_size
    sizes = dict(grid=config.image_size // vision.patch_size, depth=projector_depth(config.mm_projector_type))
    if config.mm_projector_type != GLUE:
        return LlavaMlp(vision.hidden_size, width, **sizes)
    qllama = dict(config.qllama_config or {})
    if not qllama:
        raise ConfigError(f'mm_projector_type={GLUE!r} needs qllama_config, the settings of the QLLaMA')
    # Constants of the published code where the settings are silent.
    queries = dict(
        num_queries=qllama.pop('num_query_token', 96),
        cross_attention_frequency=qllama.pop('cross_attention_frequency', 2),
    )
    former = QLlamaQueries(vision.hidden_size, qllama=qllama, **queries)
    return QueryGlue(vision.hidden_size, width, query_former=former, **sizes)


def _check(folder: Path, kind: type, config: LlavaChatConfig, state: Mapping[str, Tensor]) -> None:
    """Names and shapes, before transformers fills what is missing with random numbers."""
    with torch.device('meta'):
        own = kind(config).state_dict()  # shapes without memory
    problems = {
        'are missing': sorted(set(own) - set(state)),
        'are unknown': sorted(set(state) - set(own)),
        'have another shape': [n for n in own if n in state and own[n].shape != state[n].shape],
    }
    if any(problems.values()):
        told = ', '.join(f'{len(names)} {what} {names[:3]}' for what, names in problems.items() if names)
        raise CheckpointError(
            f'{folder}: of its tensors {told}. The weights do not belong to its config.json'
        )
