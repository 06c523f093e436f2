"""InternVL-Chat as transformers knows it: the published configuration and model class around our own parts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel

from internvl_mm.preprocess.conversation import chat_template
from internvl_mm.utils.errors import CheckpointError, ConfigError

from .chat_generation import ChatGeneration
from .connectors import PixelShuffleMlp, ShuffleVersion
from .convert.files import open_weights
from .convert.lora import merge_published_lora
from .convert.quantised import open_plain
from .device_map import balanced_device_map, renamed_device_map
from .hf_intern_vit import InternVisionConfig, InternVisionModel
from .language import family_of, language_config
from .language.families import published_settings


class InternVLChatConfig(PreTrainedConfig):
    """The published ``config.json`` of a chat model; defaults are those of the published class.

    Args:
        vision_config: Of the InternViT.
        llm_config: Of the language model; ``architectures[0]`` says which it is.
        use_backbone_lora: Rank of adapters beside the vision weights; must be merged before loading.
        use_llm_lora: The same for the language model.
        pad2square: Pad images to squares before resizing.
        select_layer: Hidden state the connector reads: -1 the last one, -4 in V1-1.
        force_image_size: Side of a tile in pixels, when it is not the vision tower's own.
        downsample_ratio: One over the patches on the side of a token.
        template: Key of the conversation template.
        dynamic_image_size: Images become several tiles.
        use_thumbnail: A small view of the whole image follows its tiles.
        ps_version: Order of the tokens of a tile, see :func:`~internvl_mm.models.connectors.pixel_shuffle`.
        min_dynamic_patch: Fewest tiles of an image.
        max_dynamic_patch: Most tiles of an image, without the thumbnail.
        **kwargs: What every transformers configuration takes; ``system_message`` replaces the template's.

    Source: InternVL ``configuration_internvl_chat.py``.
    """

    model_type = 'internvl_chat'
    sub_configs = {'vision_config': InternVisionConfig, 'llm_config': AutoConfig}

    def __init__(
        self,
        vision_config: Mapping[str, Any] | InternVisionConfig | None = None,
        llm_config: Mapping[str, Any] | PreTrainedConfig | None = None,
        use_backbone_lora: int = 0,
        use_llm_lora: int = 0,
        pad2square: bool = False,
        select_layer: int = -1,
        force_image_size: int | None = None,
        downsample_ratio: float = 0.5,  # 2 × 2 patches a token: 256 of a tile of 448 px
        template: str | None = None,
        dynamic_image_size: bool = False,
        use_thumbnail: bool = False,
        ps_version: ShuffleVersion = 'v1',  # releases from V1-5 on say 'v2'
        min_dynamic_patch: int = 1,
        max_dynamic_patch: int = 6,  # releases from V1-5 on say 12
        **kwargs: Any,
    ):
        # First of all: locals() holds the arguments alone, under their published names.
        settings = {
            name: value for name, value in locals().items() if name not in ('self', 'kwargs', '__class__')
        }
        for name, value in settings.items():
            setattr(self, name, value)
        if not isinstance(vision_config, InternVisionConfig):
            self.vision_config = InternVisionConfig(**_plain(vision_config or {}))
        self.llm_config = language_config(llm_config or {'architectures': ['InternLM2ForCausalLM']})
        # It names Python files of the folder; without it nobody asks whether they may run.
        kwargs.pop('auto_map', None)
        # DeepSpeed sizes its buckets by it.
        kwargs.setdefault('hidden_size', self.llm_config.hidden_size)
        kernel = self.llm_config._attn_implementation
        # Never tied, see language_config.
        super().__init__(**{**kwargs, 'tie_word_embeddings': False})
        # The parent's constructor clears the kernel of its parts, which a language model that exists goes on using.
        self.llm_config._attn_implementation = kernel

    @property
    def image_size(self) -> int:
        """Side of a tile in pixels."""
        return self.force_image_size or self.vision_config.image_size

    @property
    def grid(self) -> int:
        """Patches on the side of a tile."""
        return self.image_size // self.vision_config.patch_size

    @property
    def adapter_ranks(self) -> dict[str, int]:
        """Rank of the adapters beside the weights, by part; 0 for none."""
        return dict(vision_model=self.use_backbone_lora, language_model=self.use_llm_lora)

    def get_text_config(self, *args: Any, **kwargs: Any) -> PreTrainedConfig:
        """The language model's part, which transformers asks for lengths and caches."""
        del args, kwargs
        return self.llm_config

    def to_dict(self) -> dict[str, Any]:
        """The settings, with the language model's as older readers expect them."""
        settings = super().to_dict()
        settings['llm_config'] = published_settings(self.llm_config)
        return settings

    def to_diff_dict(self) -> dict[str, Any]:
        """All settings: a reader's defaults are not always ours, least of all the language models'."""
        return self.to_dict()


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != 'model_type'}


class InternVLChatModel(ChatGeneration, PreTrainedModel):
    """The published model class: same names, same outputs, same answers; our parts.

    Args:
        config: Sizes, template and layout.
        vision_model: Used instead of a new one.
        language_model: Used instead of a new one.
        use_flash_attn: Overrides the vision tower's setting.

    Raises:
        ConfigError: A template that is unknown, or parts that do not fit each other.
        CheckpointError: The config is about weights with unmerged adapters.

    Source: InternVL ``modeling_internvl_chat.py``.
    """

    config_class = InternVLChatConfig
    config: InternVLChatConfig
    main_input_name = 'pixel_values'
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    # Where accelerate may not part layers over devices: a block's residuals meet its own outputs.
    _no_split_modules = ['Block']

    def __init__(
        self,
        config: InternVLChatConfig,
        vision_model: nn.Module | None = None,
        language_model: PreTrainedModel | None = None,
        use_flash_attn: bool | None = None,
    ):
        super().__init__(config)
        if any(config.adapter_ranks.values()):
            raise CheckpointError(
                f'this folder has adapters beside its weights (use_backbone_lora={config.use_backbone_lora}, '
                f'use_llm_lora={config.use_llm_lora}): load it with internvl_mm.load_model, which merges them, '
                'or write a merged folder with tools/convert.py SRC DST --to chat'
            )
        if use_flash_attn is not None:
            config.vision_config.use_flash_attn = use_flash_attn
        depth = config.vision_config.num_hidden_layers
        # States 0 to L, the embeddings first; negative numbers count from the last.
        if not -depth - 1 <= config.select_layer <= depth:
            raise ConfigError(
                f'select_layer={config.select_layer}: the vision tower has {depth} blocks and so hidden states 0 to '
                f'{depth}'
            )
        self.vision_model = vision_model or InternVisionModel(config.vision_config)
        self.language_model = language_model or family_of(config.llm_config).model_class(config.llm_config)
        self.mlp1 = PixelShuffleMlp(
            config.vision_config.hidden_size,
            config.llm_config.hidden_size,
            grid=config.grid,
            downsample_ratio=config.downsample_ratio,
            version=config.ps_version,
        )
        self.template, self.select_layer = config.template, config.select_layer
        self.conv_template = chat_template(config.template) if config.template else None
        # An empty message is a message: only None falls back to the template's.
        stored = getattr(config, 'system_message', None)
        if stored is None:
            stored = self.conv_template.system_message if self.conv_template else ''
        self.system_message = stored
        # Differs from vocabulary to vocabulary: the tokenizer a caller brings tells it.
        self.img_context_token_id = None
        self.post_init()

    @property
    def ps_version(self) -> str:
        """Order of the tokens of a tile."""
        return self.mlp1.version

    def get_input_embeddings(self) -> nn.Module:
        """The language model's."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The language model's."""
        return self.language_model.get_output_embeddings()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *args: Any,
        load_in_8bit: bool = False,
        load_in_4bit: bool = False,
        device_map: Any = None,
        **kwargs: Any,
    ) -> InternVLChatModel:
        """Load with transformers and take the arguments of model cards of the time too.

        Adapters (LoRA) beside the weights of a folder are merged.

        Quantised folders (``…-Int8``, ``…-AWQ``) stay quantised where transformers can run them: a GPU (not for 4
        bits of bitsandbytes), the library it needs, and a language model with transformers' own names. Elsewhere they
        are read as plain weights.

        Args:
            pretrained_model_name_or_path: Folder or name on the hub.
            *args: Passed on.
            load_in_8bit: Short for a ``BitsAndBytesConfig`` as ``quantization_config``.
            load_in_4bit: The same with 4 bits.
            device_map: With ``'auto'`` and several GPUs, :func:`~internvl_mm.models.device_map.balanced_device_map`.
            **kwargs: Passed on.
        """
        if load_in_8bit or load_in_4bit:
            kwargs['quantization_config'] = BitsAndBytesConfig(
                load_in_8bit=load_in_8bit, load_in_4bit=load_in_4bit
            )
        if pretrained_model_name_or_path is not None and 'quantization_config' not in kwargs:
            config = kwargs.get('config') or cls.config_class.from_pretrained(pretrained_model_name_or_path)
            stored = getattr(config, 'quantization_config', None)
            if stored and not _runs_quantised(stored, config):
                state = dict(open_plain(pretrained_model_name_or_path, config))
                # Without a path transformers takes these instead of reading the folder.
                kwargs.update(config=config, state_dict=state)
                pretrained_model_name_or_path = None
            elif any(config.adapter_ranks.values()) and Path(pretrained_model_name_or_path).is_dir():
                weights = open_weights(Path(pretrained_model_name_or_path))
                kwargs.update(config=config, state_dict=merge_published_lora(weights, config.adapter_ranks))
                config.use_backbone_lora = config.use_llm_lora = 0
                pretrained_model_name_or_path = None
        if isinstance(device_map, Mapping):
            device_map = renamed_device_map(device_map)
        elif device_map == 'auto' and torch.cuda.device_count() > 1:
            config = kwargs.get('config') or cls.config_class.from_pretrained(pretrained_model_name_or_path)
            # Shapes alone decide the map; 40B parameters are not allocated for it.
            with torch.device('meta'):
                sizes = cls(config)
            device_map = balanced_device_map(sizes, range(torch.cuda.device_count()))
        return super().from_pretrained(pretrained_model_name_or_path, *args, device_map=device_map, **kwargs)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """See transformers.

        Raises:
            ConfigError: A quantised InternLM2.
        """
        if getattr(self, 'is_quantized', False) and _is_internlm2(self.config):
            raise ConfigError(
                'this model is quantised, and InternLM2 keeps queries, keys and values in one matrix, which packed '
                'parts cannot be put into: save it before it is quantised, or after model.dequantize()'
            )
        super().save_pretrained(*args, **kwargs)


def _is_internlm2(config: InternVLChatConfig) -> bool:
    return config.llm_config.architectures[0] == 'InternLM2ForCausalLM'


def _runs_quantised(settings: Any, config: InternVLChatConfig) -> bool:
    """Whether transformers' quantisers are to run a folder as it is stored."""
    settings = settings if isinstance(settings, Mapping) else settings.to_dict()
    # In transformers 5 AWQ needs gptqmodel; the other published kind, Int8, is bitsandbytes'.
    library = 'gptqmodel' if str(settings.get('quant_method')).endswith('awq') else 'bitsandbytes'
    # On CPUs plain weights are faster; those of bitsandbytes' 4 bits are read by itself alone.
    wanted = torch.cuda.is_available() or settings.get('load_in_4bit')
    # A joint projection cannot be taken apart while it is packed.
    return bool(wanted) and find_spec(library) is not None and not _is_internlm2(config)
