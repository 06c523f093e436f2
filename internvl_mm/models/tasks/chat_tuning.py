"""Fine-tuning of chat models, and answers for evaluation.

Shape letters: B rows, L length, N samples, M tiles, T tokens per tile, H width of the language model.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, Literal

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from internvl_mm.models.chat import place_visual_tokens
from internvl_mm.models.chat_model import ChatModel
from internvl_mm.models.chat_prompt import answer_of, token_id
from internvl_mm.models.language import family_of
from internvl_mm.models.layers.packed_attention import PACKED, packed_arguments
from internvl_mm.models.losses.chunked_cross_entropy import CHUNK, LossHead
from internvl_mm.models.tuning import PROJECTOR_TARGETS, VISION_TARGETS, PartTuning, tune
from internvl_mm.preprocess.chat import load_tokenizer
from internvl_mm.preprocess.chat_text import IMG_CONTEXT, add_image_tokens, check_tokenizer
from internvl_mm.registry import MODELS
from internvl_mm.structures import IGNORE, ChatBatch
from internvl_mm.utils.errors import ConfigError, DataError

from .base import BaseTask, Part, build_part

Reduction = Literal['token', 'sample', 'square']
# Weight of a token of a sample with x learned tokens, as exponent of x.
_EXPONENTS: dict[str, float] = dict(token=0.0, sample=-1.0, square=-0.5)


def next_tokens(batch: ChatBatch) -> Tensor:
    """What each position has to predict, ``[B, L]``: the next label of the same sample, else -100."""
    targets = torch.full_like(batch.labels, IGNORE)  # [B, L]
    # In a packed row the last token of a sample must not predict the first of the next.
    same = batch.sample_ids[:, 1:] == batch.sample_ids[:, :-1]
    targets[:, :-1] = batch.labels[:, 1:].masked_fill(~same, IGNORE)
    return targets


def token_weights(batch: ChatBatch, reduction: Reduction) -> Tensor:
    """Weight of every position, fp32 ``[B, L]``: 1, 1/x or 1/√x for samples of x labels, counted before the shift.

    Source: InternVL 2.5 (arXiv 2412.05271), section 3.3, "square averaging".
    """
    weights = batch.label_counts.clamp(min=1).float() ** _EXPONENTS[reduction]  # [N]
    # [N] to [B, L]; padding (-1) takes any weight, since its target is -100.
    return weights[batch.sample_ids.clamp(min=0)]


@MODELS.register_module()
class ChatTuning(BaseTask):
    """A chat model that learns the answers of conversations.

    Packed rows compute what their samples would compute alone. A batch without tiles runs the vision tower on an empty
    one, so that all processes do the same.

    Args:
        chat: The model, a :class:`ChatModel`.
        tokenizer: The one the data is encoded with: a tokenizer, its folder, or ``dict(type=function)``.
        add_tokens: Add the image tokens to a tokenizer without them, as the data's encoder does.
        vision: How the vision tower is trained; not at all when left out.
        projector: The same of the projector; wholly when left out.
        language: The same of the language model; wholly when left out.
        reduction: Mean over tokens (``'token'``), over samples (``'sample'``), or between them (``'square'``).
        all_gather: Divide by the mean weight of all processes instead of the own, which makes the mean of their
            losses the weighted mean over the global batch.
        chunk: Tokens whose logits exist at once.
        max_new_tokens: Longest answer in evaluations.
        data_preprocessor: A :class:`~internvl_mm.preprocess.chat_batch.ChatDataPreprocessor`.

    Raises:
        ConfigError: The model has no template.
    """

    def __init__(
        self,
        *,
        chat: ChatModel | dict,
        tokenizer: Any,
        add_tokens: bool = False,
        vision: PartTuning | dict | None = None,
        projector: PartTuning | dict | None = None,
        language: PartTuning | dict | None = None,
        reduction: Reduction = 'token',
        all_gather: bool = False,
        chunk: int = CHUNK,
        max_new_tokens: int = 64,
        data_preprocessor: Part = None,
    ):
        super().__init__(data_preprocessor=data_preprocessor)
        self.chat = build_part(chat)
        self._tokenizer, self._add_tokens = tokenizer, add_tokens
        self.parts = dict(
            vision_model=build_part(vision) or PartTuning(train='none'),
            mlp1=build_part(projector) or PartTuning(),
            language_model=build_part(language) or PartTuning(),
        )
        self.reduction, self.all_gather = reduction, all_gather
        self.max_new_tokens = max_new_tokens
        if self.chat.conv_template is None:
            raise ConfigError("model.chat has no template: set model.chat.template, such as 'internvl2_5'")
        language_model = self.chat.language_model
        # The weight keeps its name; a loss that never holds all logits comes with the layer.
        language_model.set_output_embeddings(LossHead.of(language_model.get_output_embeddings(), chunk=chunk))
        self._adapted = False

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, read when it is first needed: sizes and names of a model can be had without its folder."""
        tokenizer = load_tokenizer(self._tokenizer)
        if self._add_tokens:
            add_image_tokens(tokenizer)
        return tokenizer

    def _check_tokenizer(self) -> None:
        check_tokenizer(self.tokenizer, self.chat.conv_template)
        rows = self.chat.language_model.config.vocab_size
        if len(self.tokenizer) > rows:
            raise ConfigError(
                f'the tokenizer has {len(self.tokenizer)} tokens with those of images, the language model '
                f'vocab_size={rows}: set model.chat.language_model.llm_config.vocab_size={len(self.tokenizer)}'
            )
        self.chat.img_context_token_id = token_id(self.tokenizer, IMG_CONTEXT)

    def init_weights(self) -> None:
        """Load what the model starts from; then freeze, and put adapters in.

        Raises:
            ConfigError: Tokenizer, template and model do not belong together, or settings of a part are not possible.
        """
        self._check_tokenizer()  # before weights are read, which may take minutes
        self.chat.init_weights()
        # A second call loads weights again, but adapters are in already.
        if not self._adapted:
            self.adapt()

    def init_structure(self) -> None:
        """See :class:`BaseTask`."""
        self._check_tokenizer()
        self.adapt()

    def adapt(self) -> None:
        """Freeze, put adapters in and choose what is recomputed, as the settings of the parts say; once."""
        language = self.chat.language_model
        blocks = dict(
            vision_model=list(self.chat.vision_model.encoder.layers),
            mlp1=[],  # one layer, no blocks
            language_model=list(language.model.layers),
        )
        targets = dict(
            vision_model=VISION_TARGETS,
            mlp1=PROJECTOR_TARGETS,
            language_model=family_of(language.config).lora_targets,
        )
        for name, settings in self.parts.items():
            tune(getattr(self.chat, name), settings, blocks=blocks[name], targets=targets[name])
        self.chat.vision_model.encoder.gradient_checkpointing = self.parts['vision_model'].checkpointing
        if self.parts['language_model'].checkpointing:
            # Its old name is deprecated, the new one is younger than the oldest transformers we take.
            enable = getattr(language, 'activation_checkpointing_enable', None)
            (enable or language.gradient_checkpointing_enable)(dict(use_reentrant=False))
        if language.config._attn_implementation == 'sdpa':
            # The same kernel, which also knows packed rows.
            language.set_attn_implementation(PACKED)
        self._adapted = True
        self.train(self.training)

    def train(self, mode: bool = True) -> ChatTuning:
        """Set the mode; a frozen vision tower stays in evaluation mode, without drop path."""
        super().train(mode)
        self.chat.vision_model.train(mode and not self.parts['vision_model'].frozen)
        return self

    @property
    def width(self) -> int:
        """See :class:`BaseTask`."""
        return self.chat.language_model.config.hidden_size

    def layer_of(self, name: str) -> tuple[str, int, int]:
        """Part of a parameter, its depth in the part, and the largest depth there; optimisers ask.

        Depths count as those of :meth:`BaseBackbone.layer_id`: 0 embeddings, i+1 block i, then all else.
        """
        part, _, inner = name.removeprefix('chat.').partition('.')
        if part == 'vision_model':
            return part, self.chat.vision_model.layer_id(inner), self.chat.vision_model.num_layers + 1
        if part == 'language_model':
            last = len(self.chat.language_model.model.layers) + 1
            if inner.startswith('model.layers.'):
                return part, int(inner.split('.')[2]) + 1, last
            return part, 0 if inner.startswith('model.embed_tokens') else last, last
        return part, 0, 0  # the projector counts as one layer

    def check_data(self, metainfo: dict) -> None:
        """See :class:`BaseTask`: template, system message, tokens per tile and vocabulary have to be the model's."""
        own = dict(template=self.chat.conv_template.name, tokens_per_tile=self.chat.num_image_token)
        # Exported with the model, so that serving would say another text than training did.
        own['system_message'] = self.chat.system_message
        own['vocabulary'] = len(self.tokenizer)
        for setting, value in own.items():
            theirs = metainfo.get('encoder', {}).get(setting, value)
            if theirs != value:
                raise DataError(
                    f'{metainfo.get("name", "the training data")} is encoded with {setting}={theirs!r}, the model has '
                    f'{value!r}: give the encoder of train_dataloader.dataset and model.chat the same {setting}'
                )

    def autocast(self, inputs: ChatBatch) -> AbstractContextManager:
        """See :class:`BaseTask`."""
        return super().autocast(inputs.input_ids)

    def visual_tokens(self, batch: ChatBatch) -> Tensor:
        """Visual tokens ``[M, T, H]``; of one empty tile when there is none."""
        tiles = batch.tiles
        if not len(tiles):
            tiles = tiles.new_zeros(1, *tiles.shape[1:])
        frozen = self.parts['vision_model'].frozen
        # Without gradients a frozen tower keeps no activations.
        with torch.no_grad() if frozen else nullcontext():
            states = self.chat.vision_tokens(tiles)
        return self.chat.project(*states)  # [M, T, H]

    def hidden_states(self, batch: ChatBatch) -> Tensor:
        """Last states of the language model, ``[B, L, H]``."""
        return self.language_states(batch, self.visual_tokens(batch))

    def language_states(self, batch: ChatBatch, visual: Tensor) -> Tensor:
        """The same from visual tokens ``[M, T, H]`` computed before."""
        language = self.chat.language_model
        embeddings = language.get_input_embeddings()(batch.input_ids)  # [B, L, H]
        if len(batch.tiles):
            places = batch.input_ids == self.chat.img_context_token_id  # bool [B, L]
            embeddings = place_visual_tokens(embeddings, visual, places)
        else:
            # Of no effect, but every process then has gradients for the same parameters.
            embeddings = embeddings + 0.0 * visual.sum().to(embeddings.dtype)
        if batch.cu_seqlens is None:
            isolation: dict[str, Any] = dict(attention_mask=batch.attention_mask)
        else:
            self._check_packing()
            isolation = packed_arguments(batch.cu_seqlens)
        outputs = language.model(
            inputs_embeds=embeddings, position_ids=batch.position_ids, use_cache=False, **isolation
        )
        return outputs.last_hidden_state  # [B, L, H]

    def _check_packing(self) -> None:
        kernel = self.chat.language_model.config._attn_implementation
        if kernel != PACKED:
            raise ConfigError(
                f'packed batches need the attention kernel {PACKED!r}, the language model has {kernel!r}: leave '
                "model.chat.language_model.attention at 'sdpa'"
            )

    def extract(self, inputs: ChatBatch) -> Tensor:
        """Last states of the language model, ``[B, L, H]``."""
        return self.hidden_states(inputs)

    def loss(self, inputs: ChatBatch, data_samples: list[Any]) -> dict[str, Tensor]:
        """Weighted mean cross-entropy of the answers; also logs the learned tokens per batch.

        Raises:
            DataError: A sample of the batch has nothing to learn; names them.
        """
        self._check_labels(inputs, data_samples)
        hidden = self.hidden_states(inputs)  # [B, L, H]
        targets, weights = next_tokens(inputs), token_weights(inputs, self.reduction)  # [B, L] each
        head: LossHead = self.chat.language_model.get_output_embeddings()
        total = head(hidden, targets, weights)
        # Over targets, not labels: the shift drops a label at the very start of a sample.
        norm = (weights * (targets != IGNORE)).sum()
        if self.all_gather:
            # The mean, not the sum, because gradients are averaged over processes afterwards.
            all_reduce(norm, 'mean')
        learned = (targets != IGNORE).sum().float()
        return dict(loss=total / norm, tokens=learned)

    def halves(self, inputs: ChatBatch, data_samples: list[Any]) -> list[tuple[float, dict[str, Any]]] | None:
        """See :class:`BaseTask`; packed rows are cut between samples."""
        middle = len(inputs) // 2
        if not middle:
            return None
        parts = [(0, middle), (middle, len(inputs))]
        batches = [inputs.part(first, last) for first, last in parts]
        # The share of a part is that of its weights in the norm of the loss.
        weights = [
            float((token_weights(batch, self.reduction) * (next_tokens(batch) != IGNORE)).sum())
            for batch in batches
        ]
        return [
            (weight / sum(weights), dict(inputs=batch, data_samples=data_samples[first:last]))
            for weight, batch, (first, last) in zip(weights, batches, parts, strict=True)
        ]

    def _check_labels(self, batch: ChatBatch, data_samples: list[Any]) -> None:
        empty = (batch.label_counts == 0).nonzero().flatten().tolist()
        if empty:
            names = [
                f'{sample.dataset}[{sample.index}] ({sample.path or "no file"})'
                for sample in (data_samples[number] for number in empty if number < len(data_samples))
            ]
            raise DataError(
                f'{len(empty)} of {len(batch)} samples of a batch have no token to learn, so that their loss is 0: '
                f'{", ".join(names[:5]) or "unnamed"}; tools/check_data.py finds all of them'
            )

    @torch.no_grad()
    def predict(self, inputs: ChatBatch, data_samples: list[Any]) -> list[Any]:
        """Generate greedy answers of the prompts in the batch, padded or packed, into ``pred_answer``."""
        visual = self.visual_tokens(inputs) if len(inputs.tiles) else None  # [M, T, H]
        template = self.chat.conv_template
        stop = token_id(self.tokenizer, template.stop) if template.stop else self.tokenizer.eos_token_id
        pad = self.tokenizer.pad_token_id
        # One 1-d tensor per sample, from whichever row it was packed into; padding has no number.
        rows = [inputs.input_ids[inputs.sample_ids == number] for number in range(len(inputs))]
        # At the left, so that all prompts end where answers begin.
        ids = pad_sequence(
            rows, batch_first=True, padding_value=stop if pad is None else pad, padding_side='left'
        )
        sizes = torch.tensor([len(row) for row in rows], device=ids.device)[:, None]
        # [N, longest], true for the last `size` places of each row.
        mask = torch.arange(ids.shape[1], device=ids.device)[None] >= ids.shape[1] - sizes
        output = self.chat.generate(
            input_ids=ids,
            attention_mask=mask.long(),
            visual_features=visual,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            eos_token_id=stop,
            pad_token_id=stop if pad is None else pad,
        )
        # New tokens alone: prompts went in as embeddings, which have no ids to give back.
        texts = self.tokenizer.batch_decode(output, skip_special_tokens=True)
        for sample, text in zip(data_samples, texts, strict=True):
            sample.pred_answer = answer_of(text, template)
        return data_samples


def trainable(module: nn.Module) -> list[str]:
    """Names of parameters that train."""
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]
