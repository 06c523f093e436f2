"""The chat architecture: vision tower, connector, language model, and how their tokens come together.

Shape letters: B batch, L text length, M tiles of the whole batch, T tokens per tile, H language model width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from internvl_mm.structures.chat import IGNORE
from internvl_mm.utils.errors import DataError

from .connectors import BaseConnector


def place_visual_tokens(embeddings: Tensor, visual: Tensor, places: Tensor) -> Tensor:
    """Write visual tokens where the text has placeholders.

    Args:
        embeddings: Embedded text ``[B, L, H]``.
        visual: Visual tokens ``[M, T, H]``, in the order of the text.
        places: Where the placeholders are, ``[B, L]`` of bool.

    Raises:
        DataError: There are more or fewer placeholders than visual tokens (the published code learns from neither:
            it multiplies the loss by 0).
    """
    wanted, given = int(places.sum()), visual.shape[0] * visual.shape[1]
    if wanted != given:
        raise DataError(
            f'the text has {wanted} image placeholders, the {visual.shape[0]} tiles have {given} visual tokens '
            f'({visual.shape[1]} each): give pixel_values of exactly the tiles the text was made for'
        )
    # Out of place, so that placeholders keep a gradient path of value 0 to their embedding.
    # [M·T, H] is read row by row of the text, [B, L] flattened: tiles must come in the order of the samples.
    return embeddings.masked_scatter(places.unsqueeze(-1), visual.to(embeddings.device, embeddings.dtype))


def token_loss(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy of the next token, in fp32.

    Args:
        logits: ``[B, L, V]``.
        labels: ``[B, L]``, -100 where nothing is learned.
        weight: Of every token, ``[B, L]``; the loss is then the weighted mean.
    """
    logits, labels = logits[:, :-1].float(), labels[:, 1:].to(logits.device)
    losses = functional.cross_entropy(
        # [B, V, L-1]: torch wants classes second.
        logits.transpose(1, 2),
        labels,
        ignore_index=IGNORE,
        reduction='none' if weight is not None else 'mean',
    )
    if weight is None:
        return losses
    # Weights belong to the predicted token, hence the shift of the labels.
    kept = weight[:, 1:].to(losses) * (labels != IGNORE)
    return (losses * kept).sum() / kept.sum()


class ChatParts:
    """What every chat model does with its three parts; classes that hold them inherit from it.

    Attributes:
        vision_model: Pixels to tokens; has ``embeddings`` and ``encoder``.
        mlp1: The connector, under its published name.
        language_model: A transformers model with a language-modelling head.
        select_layer: Hidden state the connector reads: -1 the last; 0 are the embeddings.
        img_context_token_id: The placeholder token; set by ``chat`` or the caller.
    """

    vision_model: nn.Module
    mlp1: BaseConnector
    language_model: PreTrainedModel
    select_layer: int
    img_context_token_id: int | None

    @property
    def num_image_token(self) -> int:
        """Visual tokens of a tile."""
        return self.mlp1.tokens_per_tile

    def vision_tokens(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """The selected and the last hidden state of tiles ``[M, 3, S, S]``: ``[M, 1+N, C]``, class token first."""
        embeddings = self.vision_model.embeddings
        weight = embeddings.patch_embedding.weight
        # Offloaded weights are on the meta device until their hook runs, which then moves the pixels too.
        device = pixel_values.device if weight.is_meta else weight.device
        tokens = embeddings(pixel_values.to(device, weight.dtype))
        depth = len(self.vision_model.encoder.layers)
        # A range turns -1 into depth and refuses what does not exist.
        selected = range(depth + 1)[self.select_layer]
        last = depth if self.mlp1.reads_last else selected
        # Attention is global in chat models, so that the blocks do not need the grid.
        states = self.vision_model.encoder(tokens, (0, 0), keep=(selected, last))
        return states[selected], states[last]

    def extract_feature(self, pixel_values: Tensor) -> Tensor:
        """Visual tokens ``[M, T, H]`` of tiles ``[M, 3, S, S]``, as the language model reads them."""
        device = next(self.mlp1.parameters()).device
        return self.project(*(state.to(device) for state in self.vision_tokens(pixel_values)))

    def project(self, tokens: Tensor, last: Tensor) -> Tensor:
        """Visual tokens ``[M, T, H]`` of the two states :meth:`vision_tokens` gives."""
        return self.mlp1(tokens, last) if self.mlp1.reads_last else self.mlp1(tokens)

    def embed(self, input_ids: Tensor, visual: Tensor | None) -> Tensor:
        """Embedded text ``[B, L, H]`` with visual tokens ``[M, T, H]`` in their places."""
        embedding = self.language_model.get_input_embeddings()
        # Places of visual tokens may have no row (LLaVA's are negative): whatever stands there is overwritten.
        embeddings = embedding(input_ids.to(embedding.weight.device).clamp(min=0))
        if visual is None:
            return embeddings
        if self.img_context_token_id is None:
            raise DataError(
                'img_context_token_id is not set: model.img_context_token_id = '
                "tokenizer.convert_tokens_to_ids('<IMG_CONTEXT>')"
            )
        places = input_ids.to(embeddings.device) == self.img_context_token_id
        return place_visual_tokens(embeddings, visual, places)

    def forward(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        image_flags: Tensor | None = None,
        past_key_values: Any = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        loss_weight: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast | tuple:
        """Logits of the next tokens, and the loss when there are labels.

        Args:
            pixel_values: Tiles ``[M, 3, S, S]``; left out for text alone.
            input_ids: ``[B, L]`` with placeholders.
            attention_mask: Passed to the language model.
            position_ids: Passed to the language model.
            image_flags: 0 for tiles that are only there so that the vision tower runs, ``[M]`` or ``[M, 1]``.
            past_key_values: Passed to the language model.
            labels: ``[B, L]``, -100 where nothing is learned.
            use_cache: Passed to the language model.
            output_hidden_states: Passed to the language model.
            return_dict: Return a tuple when false.
            loss_weight: Weight of every token, ``[B, L]``.
            inputs_embeds: Embedded text instead of ``input_ids`` and ``pixel_values``.
            **kwargs: Passed to the language model.
        """
        if inputs_embeds is None:
            visual = None if pixel_values is None else self.extract_feature(pixel_values)
            if visual is not None and image_flags is not None:
                # [M, T, H] to the tiles that have placeholders in the text; order is kept.
                visual = visual[image_flags.reshape(-1).to(visual.device) == 1]
            inputs_embeds = self.embed(input_ids, visual)
        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
            # An object in any case: the loss goes into it, and a tuple is made last.
            return_dict=True,
            **kwargs,
        )
        if labels is not None:
            outputs.loss = token_loss(outputs.logits, labels, loss_weight)
        return outputs if return_dict in (None, True) else outputs.to_tuple()
