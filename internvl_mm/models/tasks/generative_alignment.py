"""The losses of the generative stage on token ids: matching, contrast and generation in one pass through QLLaMA.

Shape letters: B images, L text tokens.
Source: InternVL ``internvl_stage2`` and ``internvl_stage2_retrieval``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from internvl_mm.models.hf_internvl_14b import InternVL14BModel
from internvl_mm.models.losses.contrastive import IGNORED, Negatives, info_nce

# Texts without content in published token counts: begin and end; the same with the three pieces of 'summarize:'.
EMPTY_TEXT, EMPTY_SUMMARY = 2, 5


@dataclass(frozen=True)
class AlignmentTexts:
    """Ids of the texts of B images, each ``[B, L]`` of one length, padding 0.

    Attributes:
        positive: The image's own text.
        negative: The text of another image.
        summary: The image's own text with the contrastive prefix.
        caption: Caption prompt and own text; left out in retrieval.
        labels: What generation predicts of ``caption``, -100 elsewhere.
    """

    positive: Tensor
    negative: Tensor
    summary: Tensor
    caption: Tensor | None = None
    labels: Tensor | None = None


def matching_loss(logits: Tensor, right: Tensor, counts: Tensor | None = None) -> Tensor:
    """Cross entropy of "does the text belong to the image", mean over what counts.

    Args:
        logits: ``[n, 2]``, not matching and matching.
        right: bool ``[n]``.
        counts: Which of them count, bool ``[n]``.
    """
    target = right.long()
    if counts is not None:
        if not counts.any():
            # 0 with a gradient: data parallelism waits for one of every parameter.
            return logits.sum() * 0.0
        target = target.masked_fill(~counts, IGNORED)
    return F.cross_entropy(logits.float(), target)


def generative_losses(
    model: InternVL14BModel,
    pixels: Tensor,
    texts: AlignmentTexts,
    *,
    negatives: Negatives = 'all',
    empty_summary: int = EMPTY_SUMMARY,
) -> dict[str, Tensor]:
    """Losses of the generative stage, to be summed with equal weights.

    Half of the batch is matched with the wrong text and half with the right one, as published.

    Args:
        model: ViT, QLLaMA and heads.
        pixels: Normalised ``[B, 3, H, W]``, B at least 2.
        texts: With ``caption`` and ``labels``.
        negatives: See :class:`~internvl_mm.models.losses.InfoNCELoss`.
        empty_summary: Number of tokens of a summary of nothing; such rows do not count.
    """
    vision = model.vision_states(pixels)
    # B - B // 2: an odd batch has one more wrong text than right ones.
    count, wrong = len(pixels), len(pixels) - len(pixels) // 2
    mixed = torch.cat([texts.negative[:wrong], texts.positive[wrong:]])  # [B, L]
    (matching, _), (contrast, summary), (_, generated) = model.joint_states(
        vision, [(mixed, 'matching'), (texts.summary, 'contrast'), (texts.caption, 'generation')]
    )
    # Each query votes.
    logits = model.itm_head(matching).mean(dim=1)  # [B, Q, 2] to [B, 2]
    # Wrong texts come first in `mixed`.
    right = torch.arange(count, device=pixels.device) >= wrong
    # Padding is 0.
    real = texts.summary > 0
    # [B, L-1, V] of text states alone: queries predict nothing.
    scores = model.qllama.lm_head(generated[:, :-1]).float()
    return dict(
        loss_itm=matching_loss(logits, right, (mixed > 0).sum(dim=1) != EMPTY_TEXT),
        loss_itc=info_nce(
            model.clip_projector2(contrast),
            model.project_text(summary, real),
            model.logit_scale.exp(),
            negatives=negatives,
            smoothing=model.config.label_smoothing,
            counts=real.sum(dim=1) != empty_summary,
        ),
        loss_itg=F.cross_entropy(scores.flatten(0, 1), texts.labels[:, 1:].flatten(), ignore_index=IGNORED),
    )


def retrieval_losses(
    model: InternVL14BModel,
    pixels: Tensor,
    texts: AlignmentTexts,
    image_ids: Tensor,
    *,
    negatives: Negatives = 'all',
) -> dict[str, Tensor]:
    """Losses of fine-tuning for retrieval: every image with both its texts, and contrast of both image paths.

    All texts of one image are right for it, also those of other processes.

    Args:
        model: ViT, QLLaMA and heads.
        pixels: Normalised ``[B, 3, H, W]``.
        texts: Without ``caption``.
        image_ids: Number of each image ``[B]``.
        negatives: See :class:`~internvl_mm.models.losses.InfoNCELoss`.
    """
    vision = model.vision_states(pixels)
    (wrong, _), (right, _), (contrast, summary) = model.joint_states(
        vision, [(texts.negative, 'matching'), (texts.positive, 'matching'), (texts.summary, 'contrast')]
    )
    # [2B, Q, 2] to [2B, 2]; the first B are the wrong ones.
    logits = model.itm_head(torch.cat([wrong, right])).mean(dim=1)
    text = model.project_text(summary, texts.summary > 0)  # [B, E]
    options = dict(negatives=negatives, ids=image_ids)
    scale = model.logit_scale.exp()
    return dict(
        loss_itm=matching_loss(logits, torch.arange(len(logits), device=pixels.device) >= len(pixels)),
        loss_itc=info_nce(model.clip_projector2(contrast), text, scale, **options),
        loss_itc_backbone=info_nce(model.clip_projector(vision), text, scale, **options),
    )
