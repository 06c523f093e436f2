"""Chat models from configs: any vision tower, connector and language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from internvl_mm.models.connectors import BaseConnector
from internvl_mm.models.convert.files import open_weights
from internvl_mm.models.convert.llava import PROJECTOR, from_llava
from internvl_mm.models.language.internlm2 import InternLM2Config, to_llama
from internvl_mm.models.language.part import load_language
from internvl_mm.preprocess.conversation import chat_template
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import CheckpointError, ConfigError
from internvl_mm.utils.paths import ExistingPath

from .backbones import BaseBackbone
from .chat_generation import ChatGeneration
from .hf_internvl_chat import InternVLChatConfig, InternVLChatModel

_LANGUAGE = 'language_model.'


@MODELS.register_module()
class ChatModel(ChatGeneration, nn.Module):
    """A chat model of parts, with the published names of parameters.

    Args:
        vision: The vision tower, or its config.
        connector: Config of the connector; its widths and grid follow from the other parts.
        language_model: The language model, or its config.
        template: Key of the conversation template.
        system_message: Replaces the template's.
        select_layer: Hidden state the connector reads: -1 the last one.
        image_size: Side of a tile in pixels; left out, the vision tower's own.
        pretrained: A published folder to start from; the parts' own weights are then not read.
        pretrained_connector: A file of the connector's weights alone.

    Raises:
        ConfigError: An unknown template or a hidden state that does not exist.
    """

    fills = {'connector': ('in_dim', 'out_dim', 'grid')}  # arguments a config may leave out

    def __init__(
        self,
        *,
        vision: BaseBackbone | dict,
        connector: BaseConnector | dict,
        language_model: PreTrainedModel | dict,
        template: str | None = None,
        system_message: str | None = None,
        select_layer: int = -1,
        image_size: int | None = None,
        pretrained: ExistingPath | None = None,
        pretrained_connector: ExistingPath | None = None,
    ):
        super().__init__()
        self.vision_model = MODELS.build(vision) if isinstance(vision, dict) else vision
        self.language_model = (
            MODELS.build(language_model) if isinstance(language_model, dict) else language_model
        )
        depth = self.vision_model.num_layers
        # depth + 1 hidden states: the embeddings are number 0.
        if not -depth - 1 <= select_layer <= depth:
            raise ConfigError(
                f'select_layer={select_layer}: the vision tower has hidden states 0 to {depth}, or -1 to {-depth - 1}'
            )
        self.select_layer = select_layer
        self.image_size = image_size or self.vision_model.image_size
        widths = dict(
            in_dim=self.vision_model.width,
            out_dim=self.language_model.config.hidden_size,
            grid=self.image_size // self.vision_model.patch_size,
        )
        # The published name of a connector, whatever its class.
        self.mlp1 = MODELS.build(connector, default_args=widths) if isinstance(connector, dict) else connector
        self.conv_template = chat_template(template) if template else None
        default = self.conv_template.system_message if self.conv_template else ''
        self.system_message = default if system_message is None else system_message
        # Set by chat: the id differs from vocabulary to vocabulary.
        self.img_context_token_id = None
        self.pretrained, self.pretrained_connector = pretrained, pretrained_connector

    def init_weights(self) -> None:
        """Load the published folder, or the parts' own weights.

        Raises:
            CheckpointError: Weights that do not fit.
        """
        if self.pretrained is not None:
            weights = dict(open_weights(self.pretrained))
            # LLaVA-style folders name the same tensors otherwise; only they have this projector.
            if any(name.startswith(PROJECTOR) for name in weights):
                weights = {ours: weights[theirs] for theirs, ours in from_llava(weights).items()}
            self._load(weights, self.pretrained)
            return
        self.vision_model.init_weights()
        self.mlp1.init_weights()
        # A function, because the part is a plain transformers model.
        load_language(self.language_model)
        if self.pretrained_connector is not None:
            # Published files of a connector alone have its keys without a prefix, '0.weight' to '3.bias'.
            self.mlp1.load_state_dict(dict(open_weights(self.pretrained_connector)), strict=True)

    def _load(self, weights: dict[str, Tensor], path: Path | str) -> None:
        if isinstance(self.language_model.config, InternLM2Config):
            config = self.language_model.config
            heads = dict(heads=config.num_attention_heads, kv_heads=config.num_key_value_heads)
            # Taken out, because joint projections left behind would count as unknown names.
            language = {
                name.removeprefix(_LANGUAGE): weights.pop(name)
                for name in list(weights)
                if name.startswith(_LANGUAGE)
            }
            weights.update({_LANGUAGE + name: tensor for name, tensor in to_llama(language, **heads).items()})
        own = self.state_dict()
        missing, unknown = sorted(set(own) - set(weights)), sorted(set(weights) - set(own))
        wrong = [name for name in own if name in weights and own[name].shape != weights[name].shape]
        if missing or unknown or wrong:
            raise CheckpointError(
                f'{path} does not fit this model: {len(missing)} tensors are missing {missing[:3]}, {len(unknown)} '
                f'are unknown {unknown[:3]}, {len(wrong)} have another shape {wrong[:3]}'
            )
        self.load_state_dict(weights, strict=True)

    def to_published(self, **settings: Any) -> InternVLChatModel:
        """The same weights as the published class, to save as a folder; nothing is copied.

        Args:
            **settings: More of the published configuration, such as ``dynamic_image_size=True``.

        Raises:
            ConfigError: The connector is another than the published one.
        """
        vision, connector = self.vision_model, self.mlp1
        if not hasattr(connector, 'version'):
            raise ConfigError(
                f'{type(connector).__name__} has no place in the published layout, which knows PixelShuffleMlp alone'
            )
        config = InternVLChatConfig(
            vision_config=vision_settings_of(vision),
            llm_config=self.language_model.config,
            select_layer=self.select_layer,
            force_image_size=self.image_size,
            downsample_ratio=1 / connector.side,  # a side of 2 patches per token is 0.5
            ps_version=connector.version,
            template=self.conv_template.name if self.conv_template else None,
            system_message=self.system_message,
            **settings,
        )
        # The one part it would draw at random, the connector, is replaced two lines below.
        with no_init_weights():
            model = InternVLChatModel(config, vision_model=vision, language_model=self.language_model)
        # Named mlp1 there and here, so that keys need no renaming.
        model.mlp1 = connector
        # A new module is in training mode, and its parts are shared with this one.
        return model.train(self.training)


def vision_settings_of(vision: nn.Module) -> dict[str, Any]:
    """Settings of an InternViT under their published names, read off its modules."""
    block, embeddings = vision.encoder.layers[0], vision.embeddings
    return dict(
        hidden_size=block.norm1.weight.shape[0],
        num_hidden_layers=len(vision.encoder.layers),
        num_attention_heads=block.attn.num_heads,
        intermediate_size=block.mlp.fc1.out_features,
        image_size=vision.image_size,
        patch_size=embeddings.patch_size,
        num_channels=embeddings.patch_embedding.in_channels,
        norm_type='layer_norm' if isinstance(block.norm1, nn.LayerNorm) else 'rms_norm',
        layer_norm_eps=block.norm1.eps,
        qk_normalization=block.attn.has_qk_norm,
        qkv_bias=block.attn.qkv.bias is not None,
    )
