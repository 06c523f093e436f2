"""InternViT as transformers knows it: the published configuration and model class around our own modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling

from internvl_mm.models.backbones.intern_vit import Block, InternViT, VisionEmbeddings
from internvl_mm.models.layers import AttentionKernel, NormType, flash_installed, resize_position_embedding
from internvl_mm.utils.errors import ConfigError

_UNSUPPORTED = {'hidden_act': 'gelu', 'dropout': 0.0, 'attention_dropout': 0.0}  # the only published values


class InternVisionConfig(PreTrainedConfig):
    """The published ``config.json`` of an InternViT of any size; defaults are those of the published class.

    A file without ``norm_type`` means ``'rms_norm'``. The folder's ``auto_map`` is dropped: it names Python files that
    are never run here, and that a folder saved by this class does not have.

    Args:
        num_channels: Input channels.
        patch_size: Side of a patch, in pixels.
        image_size: Side of the training image, in pixels.
        qkv_bias: Bias of the joint projection.
        hidden_size: Width.
        num_attention_heads: Heads.
        intermediate_size: Width of the MLP.
        qk_normalization: Joint RMS norm of queries and keys.
        num_hidden_layers: Number of blocks.
        use_flash_attn: Use flash-attn where it is installed and applies.
        hidden_act: Only ``'gelu'`` was ever published.
        norm_type: ``'rms_norm'`` or ``'layer_norm'``.
        layer_norm_eps: Floor of the norms.
        dropout: Only 0 was ever published.
        drop_path_rate: Rate of the last block, in training.
        attention_dropout: Only 0 was ever published.
        initializer_range: Standard deviation of new linear weights.
        initializer_factor: Initial layer scale.
        **kwargs: What every transformers configuration takes.

    Raises:
        ConfigError: An activation or dropout that no published model has.

    Source: InternVL ``configuration_intern_vit.py``.
    """

    model_type = 'intern_vit_6b'  # of every size, the 300M too
    base_config_key = 'vision_config'

    def __init__(
        self,
        num_channels: int = 3,
        patch_size: int = 14,
        image_size: int = 224,
        qkv_bias: bool = False,
        hidden_size: int = 3200,
        num_attention_heads: int = 25,
        intermediate_size: int = 12800,
        qk_normalization: bool = True,
        num_hidden_layers: int = 48,
        use_flash_attn: bool = True,
        hidden_act: str = 'gelu',
        norm_type: NormType = 'rms_norm',
        layer_norm_eps: float = 1e-6,
        dropout: float = 0.0,
        drop_path_rate: float = 0.0,
        attention_dropout: float = 0.0,
        initializer_range: float = 0.02,
        initializer_factor: float = 0.1,
        **kwargs: Any,
    ):
        # First of all: locals() then holds the arguments alone.
        settings = {
            name: value for name, value in locals().items() if name not in ('self', 'kwargs', '__class__')
        }
        for name, only in _UNSUPPORTED.items():
            if settings[name] != only:
                raise ConfigError(
                    f'{name}={settings[name]!r} is not supported: InternViT was published with {only!r} only'
                )
        for name, value in settings.items():
            setattr(self, name, value)
        kwargs.pop('auto_map', None)
        super().__init__(**kwargs)

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a ``config.json``; of a whole vision-language model only the vision part is taken."""
        settings, unused = super().get_config_dict(*args, **kwargs)
        return settings.get('vision_config') or settings, unused

    def backbone_arguments(self) -> dict[str, Any]:
        """Arguments of :class:`InternViT` for this configuration."""
        names = (
            'hidden_size num_hidden_layers num_attention_heads intermediate_size image_size patch_size num_channels '
            'norm_type layer_norm_eps qk_normalization qkv_bias initializer_factor drop_path_rate'
        )
        return {name: getattr(self, name) for name in names.split()}


class InternVisionModel(PreTrainedModel):
    """The published model class: same names, same outputs, our modules.

    Gradient checkpointing is off until ``gradient_checkpointing_enable()``, as everywhere in transformers (the
    published class starts with it on).

    Args:
        config: Sizes and norms.

    Source: InternVL ``modeling_intern_vit.py``.
    """

    config_class = InternVisionConfig
    main_input_name = 'pixel_values'
    base_model_prefix = 'vision_model'  # so that a chat checkpoint loads too
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules = ['Block']  # device maps keep its residual on one device

    def __init__(self, config: InternVisionConfig):
        super().__init__(config)
        vit = InternViT(**config.backbone_arguments(), attention=self._kernel(config))
        self.embeddings, self.encoder = vit.embeddings, vit.encoder  # no 'backbone.' in names, as published
        self.post_init()

    @staticmethod
    def _kernel(config: InternVisionConfig) -> AttentionKernel:
        """``attn_implementation`` when it says more than the default, else the published ``use_flash_attn``."""
        asked = config._attn_implementation
        if asked == 'eager':
            return 'eager'
        # Every published folder has use_flash_attn: that it is not installed is no news, and asking by name checks it.
        wanted = asked == 'flash_attention_2' or config.use_flash_attn
        return 'flash' if wanted and flash_installed() else 'sdpa'

    def set_attn_implementation(self, attn_implementation: str | dict, **options: Any) -> None:
        """Choose the attention kernel of a model that exists, as for every transformers model.

        Args:
            attn_implementation: ``'eager'``, ``'sdpa'`` or ``'flash_attention_2'``.
            **options: Passed on.
        """
        super().set_attn_implementation(attn_implementation, **options)
        for block in self.encoder.layers:
            block.attn.kernel = self._kernel(self.config)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, VisionEmbeddings):
            # Standard normal, as published, whatever initializer_range says.
            init.normal_(module.class_embedding)
            init.normal_(module.position_embedding)
        elif isinstance(module, Block):
            init.constant_(module.ls1, self.config.initializer_factor)
            init.constant_(module.ls2, self.config.initializer_factor)

    def get_input_embeddings(self) -> nn.Module:
        """The module that embeds the pixels."""
        return self.embeddings

    @torch.no_grad()
    def resize_pos_embeddings(self, old_size: int, new_size: int, patch_size: int) -> None:
        """Resample the stored positions from images of ``old_size`` to ``new_size`` pixels, and note it in the config.

        Raises:
            ConfigError: ``old_size`` is not the size the stored positions belong to.
        """
        old = self.embeddings.position_embedding
        if old.shape[1] != 1 + (old_size // patch_size) ** 2:
            raise ConfigError(
                f'old_size={old_size} with patch_size={patch_size} is not the size of the stored positions '
                f'{tuple(old.shape)}; config.image_size is {self.config.image_size}'
            )
        side = new_size // patch_size
        # A copy, because at an unchanged side the result is the stored parameter itself.
        self.embeddings.position_embedding = nn.Parameter(
            resize_position_embedding(old, (side, side)).clone()
        )
        self.config.image_size = new_size

    def forward(
        self,
        pixel_values: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        pixel_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPooling | tuple[Tensor, ...]:
        """Compute features; nothing is normalised after the last block.

        Args:
            pixel_values: Normalised pixels ``[B, 3, H, W]``, cast to the dtype of the weights; rows and columns beyond
                a multiple of the patch are left out, as published.
            output_hidden_states: Also return the embeddings and the output of every block.
            return_dict: Return a tuple when false.
            pixel_embeds: Embedded tokens ``[B, 1+N, D]`` instead of pixels.
            **kwargs: Accepted for callers of other vision models, such as ``interpolate_pos_encoding`` (always on).

        Raises:
            ValueError: Neither or both of pixels and embeddings are given, or the pixels are not a batch.
        """
        del kwargs
        if (pixel_values is None) == (pixel_embeds is None):
            raise ValueError('give either pixel_values or pixel_embeds')
        if pixel_embeds is None:
            if pixel_values.ndim != 4:
                raise ValueError(
                    f'pixel_values has shape {tuple(pixel_values.shape)}: it must be [B, 3, H, W]'
                )
            # The published class takes any size: its patch convolution leaves out what is less than a patch.
            patch = self.config.patch_size
            height, width = (side // patch * patch for side in pixel_values.shape[-2:])
            pixel_values = pixel_values[..., :height, :width]
            pixel_embeds = self.embeddings(pixel_values.to(self.embeddings.patch_embedding.weight.dtype))
        # An explicit False wins over the config.
        keep_all = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        # L blocks have L+1 states: number L is the output of the last.
        last = self.config.num_hidden_layers
        # Attention is global here, so that the blocks do not need the grid.
        states = self.encoder(pixel_embeds, (0, 0), keep=range(last + 1) if keep_all else ())
        output = BaseModelOutputWithPooling(
            last_hidden_state=states[last],  # [B, 1+N, D]
            pooler_output=states[last][:, 0],  # the raw class token, [B, D]
            hidden_states=tuple(states) if keep_all else None,
        )
        as_dict = self.config.return_dict if return_dict is None else return_dict
        return output if as_dict else output.to_tuple()
