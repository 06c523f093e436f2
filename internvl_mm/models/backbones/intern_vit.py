"""InternViT, one definition for every published size and every job.

Parameters carry the names of the published Hugging Face layout, so published folders load without renaming.

Shape letters: B batch, N patches, D width, (h, w) patch grid with h·w = N.
Source: InternVL ``modeling_intern_vit.py``; Chen et al. 2023 (arXiv 2312.14238).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from internvl_mm.models.convert import load_vision_weights
from internvl_mm.models.layers import (
    Attention,
    AttentionKernel,
    Mlp,
    NormType,
    Rounding,
    WindowAttention,
    WindowPadding,
    build_norm,
    resize_position_embedding,
)
from internvl_mm.registry import MODELS
from internvl_mm.structures import VisionFeatures
from internvl_mm.utils.checks import check_counts, check_shares
from internvl_mm.utils.errors import ConfigError, DataError
from internvl_mm.utils.paths import ExistingPath

from .base import BlockBackbone, Frozen


class VisionEmbeddings(nn.Module):
    """Patch convolution, class token and learned positions, resampled to the input's grid at run time.

    Args:
        hidden_size: Width D.
        image_size: Side of the square image the stored positions belong to, in pixels.
        patch_size: Side of a patch, in pixels.
        num_channels: Input channels.
        use_class_token: Without it only the patch slots of the positions are used (detection).
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        image_size: int,
        patch_size: int,
        num_channels: int = 3,
        use_class_token: bool = True,
    ):
        super().__init__()
        self.patch_size = patch_size
        # A parameter that is never used would stop data-parallel training, which waits for its gradient.
        self.class_embedding = nn.Parameter(torch.empty(1, 1, hidden_size)) if use_class_token else None
        self.patch_embedding = nn.Conv2d(num_channels, hidden_size, kernel_size=patch_size, stride=patch_size)
        # The class slot is stored in any case, as in published files; without class token it is passed over.
        num_positions = 1 + (image_size // patch_size) ** 2
        self.position_embedding = nn.Parameter(torch.empty(1, num_positions, hidden_size))

    def grid(self, pixel_values: Tensor) -> tuple[int, int]:
        """Patch grid of ``[B, C, H, W]``.

        Raises:
            DataError: It has another number of axes, or sides that are no multiple of the patch.
        """
        if pixel_values.ndim != 4:
            # A convolution takes [C, H, W] too, and what follows would fail far from the mistake.
            raise DataError(
                f'images have the shape {list(pixel_values.shape)} instead of [B, C, H, W]: give a batch, '
                'pixel_values[None] for one image'
            )
        height, width = pixel_values.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise DataError(
                f'image of {height}x{width} pixels is not a multiple of patch_size={self.patch_size}: resize or pad it'
            )
        return height // self.patch_size, width // self.patch_size

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Embed ``[B, C, H, W]``; returns ``[B, 1+N, D]`` (``[B, N, D]`` without class token)."""
        grid = self.grid(pixel_values)
        # [B, D, h, w] to [B, N, D], row by row
        patches = self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        # The dtype of the weight, as published: under autocast the patches are half, the residual stream is not.
        dtype = self.patch_embedding.weight.dtype
        positions = resize_position_embedding(self.position_embedding, grid).to(dtype)  # [1, 1+N, D]
        if self.class_embedding is None:
            return patches + positions[:, 1:]
        class_token = self.class_embedding.to(dtype).expand(len(patches), -1, -1)  # [B, 1, D]
        return torch.cat([class_token, patches], dim=1) + positions


class Block(nn.Module):
    """Pre-norm transformer block with layer scale before drop path on both branches.

    Args:
        attention: The token mixer.
        hidden_size: Width D.
        intermediate_size: Width of the MLP.
        norm: Factory arguments of :func:`build_norm` after the width.
        layer_scale: Initial value of both layer scales.
        drop_path: Probability to drop a branch, per sample.
    """

    def __init__(
        self,
        attention: Attention,
        *,
        hidden_size: int,
        intermediate_size: int,
        norm: dict,
        layer_scale: float,
        drop_path: float,
    ):
        super().__init__()
        self.attn = attention
        self.mlp = Mlp(hidden_size, intermediate_size)
        self.norm1 = build_norm(dim=hidden_size, **norm)
        self.norm2 = build_norm(dim=hidden_size, **norm)
        # [D] each. Small at the start, so that a new block is close to the identity.
        self.ls1 = nn.Parameter(torch.full((hidden_size,), float(layer_scale)))
        self.ls2 = nn.Parameter(torch.full((hidden_size,), float(layer_scale)))
        self.drop_path = DropPath(drop_path) if drop_path else None

    def _add(self, x: Tensor, branch: Tensor, scale: Tensor) -> Tensor:
        if self.drop_path is not None and self.training:
            return x + self.drop_path(branch * scale)
        if x.dtype == branch.dtype == scale.dtype:
            return torch.addcmul(x, branch, scale)  # one pass over memory instead of two
        return x + branch * scale

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map ``[B, 1+N, D]`` to ``[B, 1+N, D]``."""
        # Norms may promote half inputs (fp32 weights); the branch runs in the residual's dtype, as published.
        x = self._add(x, self.attn(self.norm1(x).to(x.dtype), grid), self.ls1)
        return self._add(x, self.mlp(self.norm2(x).to(x.dtype)), self.ls2)


class VisionEncoder(nn.Module):
    """The stack of blocks, without a final norm.

    Args:
        layers: The blocks, in order.
        gradient_checkpointing: Recompute activations in the backward pass.
    """

    def __init__(self, layers: Iterable[Block], *, gradient_checkpointing: bool = False):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.gradient_checkpointing = gradient_checkpointing

    def forward(
        self, tokens: Tensor, grid: tuple[int, int], *, keep: Iterable[int] = ()
    ) -> list[Tensor | None]:
        """Run the blocks on ``[B, 1+N, D]``.

        Args:
            tokens: Embedded image.
            grid: Patch grid (h, w).
            keep: Which states to return beside the last: 0 is the input, i the output of block i-1.

        Returns:
            States ``[B, 1+N, D]`` by index, ``None`` where not kept; the last is always there. A list, because ZeRO-3
            looks for tensors in what modules return and takes dict keys for names.
        """
        wanted = {*keep, len(self.layers)}
        states = [tokens if 0 in wanted else None]  # L+1 entries, the embeddings first, as published
        for index in range(len(self.layers)):
            tokens = self.run(tokens, grid, range(index, index + 1))
            states.append(tokens if index + 1 in wanted else None)
        return states

    def run(self, tokens: Tensor, grid: tuple[int, int], blocks: range) -> Tensor:
        """Run some blocks in order on ``[B, 1+N, D]``."""
        # Not only in training mode: gradients of an adapter pass through frozen blocks, which stay in evaluation mode.
        recompute = self.gradient_checkpointing and torch.is_grad_enabled()
        for index in blocks:
            layer = self.layers[index]
            # The non-reentrant form keeps gradients of the blocks when the embeddings are frozen.
            tokens = (
                checkpoint(layer, tokens, grid, use_reentrant=False) if recompute else layer(tokens, grid)
            )
        return tokens


@MODELS.register_module()
class InternViT(BlockBackbone):
    """The InternViT vision transformer. Argument names and defaults follow the published ``config.json``.

    Args:
        hidden_size: Width D.
        num_hidden_layers: Number of blocks.
        num_attention_heads: Heads; must divide ``hidden_size``.
        intermediate_size: Width of the MLP.
        image_size: Side of the square training image, in pixels; other sizes resample the positions at run time.
        patch_size: Side of a patch, in pixels. Published weights have 14; loading resamples the kernel to others.
        num_channels: Input channels.
        norm_type: ``'rms_norm'`` (6B) or ``'layer_norm'`` (300M).
        layer_norm_eps: Floor of block and QK norms.
        qk_normalization: Joint norm over all heads of queries and keys (6B).
        qk_norm_type: Its kind: in published folders always ``'rms_norm'``; the ``.pth`` classes took ``norm_type``.
        qkv_bias: Bias of the joint projection (300M).
        initializer_factor: Initial layer scale (0.1 in 6B, 1.0 in 300M).
        drop_path_rate: Rate of the last block, to which it grows linearly from 0; or one per block.
        rms_rounding: See :class:`~internvl_mm.models.layers.RMSNorm`.
        attention: Kernel, see :func:`~internvl_mm.models.layers.attend`.
        use_class_token: ``False`` drops it before the blocks; needed by windows.
        window_size: Side of attention windows in patches, one number or one per block; ``None`` for global attention.
        global_blocks: Blocks that stay global when windows are used; none in the published 6B detection model.
        window_padding: See :class:`~internvl_mm.models.layers.WindowAttention`.
        out_indices: Blocks whose outputs become ``maps`` (block index k is hidden state k+1).
        output_hidden_states: Keep every hidden state.
        gradient_checkpointing: Recompute activations in the backward pass.
        frozen: See :meth:`BlockBackbone.freeze`.
        pretrained: Weights to start from: a folder or file in any layout of :mod:`internvl_mm.models.convert`.
        pretrained_depth: Blocks in that file when it has more than this model, which then takes the first ones (the
            published V1-0 probes take 45 of 48).

    Raises:
        ConfigError: Settings that do not fit each other.
    """

    def __init__(
        self,
        *,
        # The 6B at 224 px. The 300M: width 1024, 24 blocks, 16 heads, MLP 4096, layer norms, bias in qkv, no QK norm.
        hidden_size: int = 3200,
        num_hidden_layers: int = 48,
        num_attention_heads: int = 25,
        intermediate_size: int = 12800,
        image_size: int = 224,
        patch_size: int = 14,
        num_channels: int = 3,
        norm_type: NormType = 'rms_norm',
        layer_norm_eps: float = 1e-6,
        qk_normalization: bool = True,
        qk_norm_type: NormType = 'rms_norm',
        qkv_bias: bool = False,
        initializer_factor: float = 0.1,
        drop_path_rate: float | tuple[float, ...] = 0.0,
        rms_rounding: Rounding = 'pure',
        attention: AttentionKernel = 'sdpa',
        use_class_token: bool = True,
        window_size: int | tuple[int, ...] | None = None,
        global_blocks: tuple[int, ...] = (),
        window_padding: WindowPadding = 'tokens',
        out_indices: tuple[int, ...] = (),
        output_hidden_states: bool = False,
        gradient_checkpointing: bool = False,
        frozen: Frozen = None,
        pretrained: ExistingPath | None = None,
        pretrained_depth: int | None = None,
    ):
        super().__init__()
        check_counts(
            hidden_size=hidden_size,
            num_hidden_layers=num_hidden_layers,
            num_attention_heads=num_attention_heads,
            intermediate_size=intermediate_size,
            patch_size=patch_size,
            image_size=image_size,
            num_channels=num_channels,
        )
        rates = _drop_path_rates(drop_path_rate, num_hidden_layers)
        windows = _window_sides(window_size, num_hidden_layers)
        if window_size is not None and use_class_token:
            raise ConfigError(
                'window_size needs use_class_token=False: a window has no place for the class token'
            )
        self.width, self.num_layers = hidden_size, num_hidden_layers
        self.patch_size, self.image_size = patch_size, image_size
        self.use_class_token = use_class_token
        self.out_indices = self._checked_blocks('out_indices', out_indices)
        self.strides = (float(patch_size),) * len(self.out_indices)
        self.output_hidden_states = output_hidden_states
        self.pretrained, self.pretrained_depth = pretrained, pretrained_depth

        self.embeddings = VisionEmbeddings(
            hidden_size,
            image_size=image_size,
            patch_size=patch_size,
            num_channels=num_channels,
            use_class_token=use_class_token,
        )
        norm: dict[str, Any] = dict(norm_type=norm_type, eps=layer_norm_eps, rounding=rms_rounding)
        attention_options: dict[str, Any] = dict(
            qkv_bias=qkv_bias,
            qk_norm=dict(norm, norm_type=qk_norm_type) if qk_normalization else None,
            kernel=attention,
        )
        global_blocks = self._checked_blocks('global_blocks', global_blocks)
        blocks = []
        for index, rate in enumerate(rates):
            if windows is None or index in global_blocks:
                mixer = Attention(hidden_size, num_attention_heads, **attention_options)
            else:
                mixer = WindowAttention(
                    hidden_size,
                    num_attention_heads,
                    window_size=windows[index],
                    padding=window_padding,
                    **attention_options,
                )
            block = Block(
                mixer,
                hidden_size=hidden_size,
                intermediate_size=intermediate_size,
                norm=norm,
                layer_scale=initializer_factor,
                drop_path=rate,
            )
            blocks.append(block)
        self.encoder = VisionEncoder(blocks, gradient_checkpointing=gradient_checkpointing)
        self.freeze(frozen)

    def _checked_blocks(self, setting: str, blocks: Iterable[int]) -> tuple[int, ...]:
        blocks = tuple(blocks)
        for block in blocks:
            if not 0 <= block < self.num_layers:
                raise ConfigError(
                    f'{setting}={blocks} names block {block}, but this backbone has blocks 0 to {self.num_layers - 1}'
                )
        return blocks

    def init_weights(self) -> None:
        """Load ``pretrained``, or draw class token and positions from a standard normal, as published.

        The layers have PyTorch's own initialisation since they were made, also as published.
        """
        if self.pretrained is not None:
            self.load_weights(self.pretrained)
            return
        # Positions must be as large as the embedded patches: with std 0.02 tiny models stay at chance for many epochs.
        if self.embeddings.class_embedding is not None:
            nn.init.normal_(self.embeddings.class_embedding)
        nn.init.normal_(self.embeddings.position_embedding)

    def load_weights(self, path: str | Path) -> None:
        """See :class:`BaseBackbone`; any layout of :mod:`internvl_mm.models.convert`."""
        load_vision_weights(self, path, file_depth=self.pretrained_depth)

    def forward(self, pixel_values: Tensor) -> VisionFeatures:
        """Compute features of ``[B, 3, H, W]``; H and W are multiples of the patch size, not necessarily equal.

        The pixels are cast to the dtype of the patch convolution.
        """
        # A frozen backbone builds no graph, so that no activation is kept for a backward pass.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            return self.forward_tokens(*self.embed(pixel_values))

    def embed(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """See :class:`BlockBackbone`."""
        # As in the published .pth classes; the Hugging Face class fails on pixels of another dtype.
        pixel_values = pixel_values.to(self.embeddings.patch_embedding.weight.dtype)
        return self.embeddings(pixel_values), self.embeddings.grid(pixel_values)

    def run_blocks(self, tokens: Tensor, grid: tuple[int, int], blocks: range) -> Tensor:
        """See :class:`BlockBackbone`."""
        return self.encoder.run(tokens, grid, blocks)

    def forward_tokens(self, tokens: Tensor, grid: tuple[int, int]) -> VisionFeatures:
        """Run the blocks on embedded tokens ``[B, 1+N, D]`` (what the published code calls ``pixel_embeds``)."""
        # Other states are freed on the way: at 448 px one of the 6B is 1025 · 3200 values per image.
        kept = range(self.num_layers + 1) if self.output_hidden_states else [i + 1 for i in self.out_indices]
        states = self.encoder(tokens, grid, keep=kept)
        return VisionFeatures(
            tokens=states[self.num_layers],
            grid=grid,
            hidden_states=tuple(states[i] for i in kept) if self.output_hidden_states else None,
            # state i+1 is the output of block i
            maps=tuple(self._to_map(states[i + 1], grid) for i in self.out_indices),
            strides=self.strides,
            has_class_token=self.use_class_token,
        )

    def _to_map(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        # No norm and fp32, as published taps are.
        patches = tokens[:, int(self.use_class_token) :]  # [B, N, D]
        return patches.transpose(1, 2).unflatten(2, grid).float().contiguous()  # [B, D, h, w]

    def layer_id(self, name: str) -> int:
        """See :meth:`BlockBackbone.layer_id`; ``name`` is relative to this module."""
        if name.startswith('embeddings.'):
            return 0
        if name.startswith('encoder.layers.'):
            return int(name.split('.')[2]) + 1  # encoder.layers.<i>.…
        return self.num_layers + 1

    @torch.no_grad()
    def resize_positions(self, image_size: int) -> None:
        """Resample the stored positions to ``image_size``, a multiple of the patch size, in place."""
        if image_size % self.patch_size:
            raise ConfigError(f'image_size={image_size} is not a multiple of patch_size={self.patch_size}')
        side = image_size // self.patch_size
        old = self.embeddings.position_embedding
        new = resize_position_embedding(old, (side, side)).clone()  # [1, 1+side², D]
        # Another object: an optimiser made before would go on with the old one.
        self.embeddings.position_embedding = nn.Parameter(new, requires_grad=old.requires_grad)
        self.image_size = image_size


def _drop_path_rates(drop_path_rate: float | tuple[float, ...], num_layers: int) -> list[float]:
    """One rate per block."""
    for rate in _per_block('drop_path_rate', drop_path_rate, num_layers):
        check_shares(drop_path_rate=rate)
    if isinstance(drop_path_rate, (tuple, list)):
        return list(drop_path_rate)
    # From 0 in the first block; on the CPU also under torch.device('meta'), whose tensors have no values to list.
    return torch.linspace(0, drop_path_rate, num_layers, device='cpu').tolist()


def _window_sides(window_size: int | tuple[int, ...] | None, num_layers: int) -> tuple[int, ...] | None:
    """One side per block, the sides of global blocks without use."""
    if window_size is None:
        return None
    sides = _per_block('window_size', window_size, num_layers)
    for side in sides:
        check_counts(window_size=side)
    return sides


def _per_block(setting: str, value: Any, num_layers: int) -> tuple[Any, ...]:
    """A setting that is one number for all blocks, or one for each."""
    # A list, because configs that were written and read again have lists for tuples.
    if not isinstance(value, (tuple, list)):
        return (value,) * num_layers
    if len(value) != num_layers:
        raise ConfigError(
            f'{setting}={value} has {len(value)} values, but there are {num_layers} blocks: give one number, or one '
            'per block'
        )
    return tuple(value)
