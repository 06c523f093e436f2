"""Contrastive pretraining: ViT and text tower from pairs (stage 1).

Shape letters: B pairs, N patches, D width, E width of the joint space.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from internvl_mm.models.losses import InfoNCELoss
from internvl_mm.preprocess.caption_tokens import CaptionTokenizer
from internvl_mm.registry import MODELS
from internvl_mm.structures import ImageSample
from internvl_mm.utils.checks import check_shares
from internvl_mm.utils.errors import ConfigError

from .base import Part, build_part
from .image_text import ImageTextTask


def kept_patches(patches: int, share: float) -> int:
    """How many patches are left when a share of them is left out: the nearest number, at least 1."""
    return max(1, round(patches * (1 - share)))


def keep_patches(tokens: Tensor, share: float) -> Tensor:
    """A random part of the patches of each image, class token always.

    Args:
        tokens: Embedded image ``[B, 1+N, D]``.
        share: Share of the N patches that is left out.

    Returns:
        ``[B, 1+K, D]`` with K of :func:`kept_patches`.

    Source: Li et al. 2023, "Scaling language-image pre-training via masking" (arXiv 2212.00794).
    """
    batch, length, width = tokens.shape
    kept = kept_patches(length - 1, share)
    # Positions are added already, so that the order does not matter.
    # The first K of a random permutation, [B, K]; + 1 steps over the class token.
    order = torch.rand(batch, length - 1, device=tokens.device).argsort(dim=1)[:, :kept] + 1
    chosen = tokens.gather(1, order[..., None].expand(-1, -1, width))  # [B, K, D]
    return torch.cat([tokens[:, :1], chosen], dim=1)


@MODELS.register_module()
class ContrastivePretraining(ImageTextTask):
    """Images and captions into one space, by contrast over the global batch.

    Args:
        backbone: Pixels to features, an :class:`~internvl_mm.models.backbones.InternViT`.
        neck: Features to the joint space, as published
            :class:`~internvl_mm.models.necks.AttentionPooling` with ``out_dim``.
        text_encoder: Ids to the joint space, e.g. :class:`~internvl_mm.models.text_encoders.LlamaTextEncoder`.
        tokenizer: See :class:`ImageTextTask`.
        loss: A :class:`~internvl_mm.models.losses.ContrastiveLoss`; InfoNCE when left out.
        mask: Share of the patches left out in training, drawn anew for each image; a
            :class:`~internvl_mm.engine.hooks.ResolutionSchedule` changes it during training.
        class_prompts: See :class:`ImageTextTask`.
        data_preprocessor: See :class:`ImageTextTask`.

    Attributes:
        training_size: Side of training images in pixels, to which batches are resized; as they come when ``None``.
    """

    fills = {'neck': ('dim',), 'text_encoder': ('out_dim',)}  # arguments of parts that a config may leave out
    training_size: int | None = None

    def __init__(
        self,
        *,
        backbone: Part,
        neck: Part,
        text_encoder: Part,
        tokenizer: CaptionTokenizer | dict,
        loss: Part = None,
        mask: float = 0.0,
        class_prompts: dict | None = None,
        data_preprocessor: Part = None,
    ):
        super().__init__(
            tokenizer=tokenizer, class_prompts=class_prompts, data_preprocessor=data_preprocessor
        )
        check_shares(mask=mask)
        self.backbone = build_part(backbone)
        self.neck = build_part({'dim': self.backbone.width, **neck} if isinstance(neck, dict) else neck)
        self.text_encoder = build_part(
            {'out_dim': self.neck.out_dim, **text_encoder} if isinstance(text_encoder, dict) else text_encoder
        )
        self.criterion = build_part(loss) or InfoNCELoss()
        self.mask = mask
        if self.text_encoder.out_dim != self.neck.out_dim:
            raise ConfigError(
                f'text_encoder.out_dim={self.text_encoder.out_dim} but the neck gives {self.neck.out_dim} values: both '
                'towers end in one space; leave out_dim out to have it filled in'
            )

    @property
    def width(self) -> int:
        """See :class:`BaseTask`."""
        return self.backbone.width

    def layer_of(self, name: str) -> tuple[str, int, int]:
        """Part of a parameter, its depth in the part, and the largest depth there; optimisers ask.

        Parts are ``backbone``, ``neck``, ``text_encoder`` and ``criterion``; depths of the backbone are its layer ids.
        """
        part, _, inner = name.partition('.')
        if part == 'backbone':
            return part, self.backbone.layer_id(inner), self.backbone.num_layers + 1
        return part, 0, 0

    def encode_images(self, inputs: Tensor) -> Tensor:
        """See :class:`ImageTextTask`."""
        return self.neck(self.backbone(inputs))  # [B, E]

    def encode_ids(self, ids: Tensor) -> Tensor:
        """See :class:`ImageTextTask`."""
        return self.text_encoder(ids)  # [T, E]

    def image_tensors(self) -> Mapping[str, Tensor]:
        """See :class:`ImageTextTask`."""
        return {
            **self.backbone.state_dict(prefix='backbone.'),
            **self.neck.state_dict(prefix='neck.'),
        }

    def text_tensors(self) -> Mapping[str, Tensor]:
        """See :class:`ImageTextTask`."""
        return self.text_encoder.state_dict()

    def loss(self, inputs: Tensor, data_samples: list[ImageSample]) -> dict[str, Tensor]:
        """Contrastive loss; also logs the inverse temperature, and how many captions of the batch were cut."""
        cut_before = self.tokenizer.truncated
        captions = self.captions_of(data_samples)
        texts = self.encode_texts(captions, inputs.device)  # [B, E]
        # The same number for equal captions on every process.
        # Not Python's hash, which every process salts differently.
        ids = torch.tensor([zlib.crc32(caption.encode()) for caption in captions], device=inputs.device)
        loss = self.criterion(self._training_images(inputs), texts, ids)
        cut = torch.tensor(float(self.tokenizer.truncated - cut_before))
        return dict(loss=loss, scale=self.criterion.logit_scale.detach().exp(), captions_cut=cut)

    def training_grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Patches that the blocks see of a training image of ``size`` (height, width) in pixels, as rows and columns.

        Masked patches are not among them: the others are one row.
        """
        height, width = size if self.training_size is None else (self.training_size,) * 2
        grid = height // self.backbone.patch_size, width // self.backbone.patch_size
        return (1, kept_patches(grid[0] * grid[1], self.mask)) if self.mask else grid

    def _training_images(self, inputs: Tensor) -> Tensor:
        if self.training_size is not None and inputs.shape[-1] != self.training_size:
            side = (self.training_size, self.training_size)
            # Antialiased, as images are loaded: plain bicubic aliases where they shrink.
            inputs = F.interpolate(inputs, side, mode='bicubic', antialias=True)  # [B, 3, S, S]
        if not self.mask:
            return self.encode_images(inputs)
        embeddings = self.backbone.embeddings
        tokens = keep_patches(embeddings(inputs.to(embeddings.patch_embedding.weight.dtype)), self.mask)
        # Attention is global: the blocks do not need the grid.
        return self.neck(self.backbone.forward_tokens(tokens, embeddings.grid(inputs)))
