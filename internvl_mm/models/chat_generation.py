"""The published way to talk to a chat model: ``chat``, ``batch_chat`` and ``generate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig

from internvl_mm.preprocess.chat_text import IMAGE, IMG_CONTEXT, IMG_END, IMG_START, ChatTextEncoder
from internvl_mm.preprocess.conversation import ChatTemplate, Turn
from internvl_mm.utils.console import console
from internvl_mm.utils.errors import ConfigError, DataError

from .chat import ChatParts
from .chat_prompt import (
    IMAGE_TOKENS,
    ImageTokens,
    answer_of,
    build_prompt,
    check_tiles,
    prompt_encoder,
    tiles_of,
    token_id,
    with_image,
)
from .generation_settings import check_generation
from .packed_prefill import can_pack, prefill_packed

# Through the vision tower: 16 of 1,025 tokens fill a GPU, and a long video needs no more memory than a picture. On CPUs
# a dozen at a time is some 8 % faster than 40.
_TILES_AT_ONCE = 16


@dataclass(frozen=True)
class Prompt:
    """A conversation to continue, the tiles of each of its images, and what frames it."""

    turns: list[Turn]
    tiles: list[int]
    template: ChatTemplate
    system_message: str


# What a caller gives: settings of ``generate``, a streamer among them.
Settings: TypeAlias = dict[str, Any] | GenerationConfig


class ChatGeneration(ChatParts):
    """``chat``, ``batch_chat`` and ``generate`` of the published class.

    Answers are the published ones; what differs is that nothing the caller gives is changed, that a sample of
    ``batch_chat`` may have any number of images, and that mistakes are told.

    Attributes:
        conv_template: The model's template; ``None`` when its config names none.
        system_message: Said first; read once at the start of a chat, so that threads may use one model.
        published_text: Tokenise the whole prompt at once as published, so that special tokens in questions act.
    """

    conv_template: ChatTemplate | None
    system_message: str
    config: Any
    published_text: bool = False
    _encoder: tuple[tuple, ChatTextEncoder] | None = None

    def _template(self) -> ChatTemplate:
        if self.conv_template is None:
            raise ConfigError(
                'this model has no template: its config needs template=..., one of '
                'internvl_mm.preprocess.conversation.CHAT_TEMPLATES'
            )
        return self.conv_template

    def chat(
        self,
        tokenizer: Any,
        pixel_values: Tensor | None,
        question: str,
        generation_config: Settings,
        history: Sequence[Turn] | None = None,
        return_history: bool = False,
        num_patches_list: Sequence[int] | None = None,
        IMG_START_TOKEN: str = IMG_START,
        IMG_END_TOKEN: str = IMG_END,
        IMG_CONTEXT_TOKEN: str = IMG_CONTEXT,
        verbose: bool = False,
    ) -> str | tuple[str, list[Turn]]:
        """Answer a question about images, given what was said before.

        Args:
            tokenizer: The model's tokenizer.
            pixel_values: Tiles ``[M, 3, S, S]`` of all images of the conversation, in order; ``None`` for text alone.
            question: May hold ``<image>``, one per new image; a first question about one image needs none.
            generation_config: Settings of :meth:`generate`, such as ``dict(max_new_tokens=512, do_sample=False)``; a
                ``streamer`` may be among them.
            history: Earlier turns, as returned; with a history nothing is put in front of the question.
            return_history: Also return the history with this turn.
            num_patches_list: Tiles of each image; left out, all belong to one.
            IMG_START_TOKEN: Before an image.
            IMG_END_TOKEN: After an image.
            IMG_CONTEXT_TOKEN: Placeholder of a visual token.
            verbose: Print the prompt and the answer.

        Returns:
            The answer, or answer and history.

        Raises:
            ConfigError: A setting of generation is unknown, or its value is not possible.
            DataError: Images, tiles and ``<image>`` do not agree.
        """
        template, system_message = self._template(), self.system_message
        image_tokens = (IMG_START_TOKEN, IMG_END_TOKEN, IMG_CONTEXT_TOKEN)
        tiles = tiles_of(pixel_values, num_patches_list)
        # As published an empty list is a history, too: callers who pass [] write <image> themselves.
        if history is None and pixel_values is not None and IMAGE not in question:
            question = f'{IMAGE}\n{question}'
        turns = [*(history or []), (question, None)]
        prompt = Prompt(turns, tiles, template, system_message)
        [text] = self._answer(tokenizer, pixel_values, [prompt], generation_config, image_tokens)
        answer = answer_of(text, template)
        if verbose:
            console.print(f'{template.render(turns, system_message)} {answer}')
        # With the <image> that was put in front: later turns count the images of the whole history.
        return (answer, [*turns[:-1], (question, answer)]) if return_history else answer

    def batch_chat(
        self,
        tokenizer: Any,
        pixel_values: Tensor | None,
        questions: Sequence[str],
        generation_config: Settings,
        num_patches_list: Sequence[int | Sequence[int]] | None = None,
        history: Sequence[Sequence[Turn]] | None = None,
        return_history: bool = False,
        IMG_START_TOKEN: str = IMG_START,
        IMG_END_TOKEN: str = IMG_END,
        IMG_CONTEXT_TOKEN: str = IMG_CONTEXT,
        verbose: bool = False,
        image_counts: Sequence[int | Sequence[int]] | None = None,
    ) -> list[str] | tuple[list[str], list[list[Turn]]]:
        """Answer several questions at once, each with images of its own.

        Args:
            tokenizer: The model's tokenizer.
            pixel_values: Tiles ``[M, 3, S, S]`` of all samples, in order; ``None`` for text alone.
            questions: One per sample.
            generation_config: Settings of :meth:`generate`.
            num_patches_list: Per sample the tiles of its image, or a list with the tiles of each of its images (an
                empty one for text); left out, every sample has one image of equally many tiles.
            history: Earlier turns of every sample.
            return_history: Also return the histories with this turn.
            IMG_START_TOKEN: Before an image.
            IMG_END_TOKEN: After an image.
            IMG_CONTEXT_TOKEN: Placeholder of a visual token.
            verbose: Print the answers.
            image_counts: Earlier name of ``num_patches_list``.

        Returns:
            The answers, or answers and histories.

        Raises:
            ConfigError: A setting of generation is unknown, or its value is not possible.
            DataError: Images, tiles and ``<image>`` do not agree, or the lists have different lengths.
        """
        template, system_message = self._template(), self.system_message
        image_tokens = (IMG_START_TOKEN, IMG_END_TOKEN, IMG_CONTEXT_TOKEN)
        given = image_counts if num_patches_list is None else num_patches_list
        tiles = _tiles_of_samples(pixel_values, given, len(questions))
        histories = [[] for _ in questions] if history is None else [list(turns) for turns in history]
        if len(histories) != len(questions):
            raise DataError(f'history has {len(histories)} entries for {len(questions)} questions')
        asked = [
            # As in chat: after a history nothing is put in front.
            question if turns else with_image(question, counts)
            for question, turns, counts in zip(questions, histories, tiles, strict=True)
        ]
        prompts = [
            Prompt([*turns, (question, None)], counts, template, system_message)
            for question, turns, counts in zip(asked, histories, tiles, strict=True)
        ]
        texts = self._answer(tokenizer, pixel_values, prompts, generation_config, image_tokens)
        answers = [answer_of(text, template) for text in texts]
        if verbose:
            for question, answer in zip(asked, answers, strict=True):
                console.print(f'{question} {answer}')
        if not return_history:
            return answers
        together = zip(histories, asked, answers, strict=True)
        return answers, [[*turns, (question, answer)] for turns, question, answer in together]

    def _answer(
        self,
        tokenizer: Any,
        pixel_values: Tensor | None,
        prompts: list[Prompt],
        settings: Settings,
        image_tokens: ImageTokens,
    ) -> list[str]:
        """Decoded continuations of the prompts."""
        # Only what was set: defaults of the class would override the model's own generation settings.
        given = settings.to_diff_dict() if isinstance(settings, GenerationConfig) else settings
        # A GenerationConfig of a model also notes, under names with an underscore, where it is from.
        given = {name: value for name, value in given.items() if name[0] != '_'}
        check_generation(given)
        ids = [self._prompt_ids(tokenizer, prompt, image_tokens) for prompt in prompts]
        if given.get('num_return_sequences', 1) != 1:
            raise DataError(
                f'num_return_sequences={given["num_return_sequences"]}: chat gives one answer per question; ask '
                'again with do_sample=True, or use generate'
            )
        # Last, because the published chat replaces the caller's end token by the template's, too.
        options = {**given, 'eos_token_id': self._stop_id(tokenizer)}
        pad = options.setdefault('pad_token_id', tokenizer.pad_token_id)
        if pad is None:  # as Llama's tokenizer: what stands where nothing is read does not matter
            pad = options['pad_token_id'] = options['eos_token_id']
        self.img_context_token_id = self.context_id(tokenizer, image_tokens[2])
        # At the left: every prompt ends in the last column, where its answer begins.
        length = max(map(len, ids))
        # [B, L] both.
        rows = torch.tensor([[pad] * (length - len(row)) + row for row in ids])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids])
        output = self.generate(
            pixel_values=pixel_values,
            input_ids=rows,
            attention_mask=mask,
            **options,
        )
        cleaned = getattr(tokenizer, 'clean_up_tokenization_spaces', False)
        texts = tokenizer.batch_decode(output, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if cleaned:
            # transformers 5 ignores this setting of a folder for BPE, where published answers were made with it.
            texts = [tokenizer.clean_up_tokenization(text) for text in texts]
        return texts

    def _prompt_ids(self, tokenizer: Any, prompt: Prompt, image_tokens: ImageTokens) -> list[int]:
        # The encoder knows the published image tokens alone.
        if self.published_text or image_tokens != IMAGE_TOKENS:
            text = build_prompt(
                prompt.template,
                prompt.turns,
                prompt.tiles,
                self.num_image_token,
                system_message=prompt.system_message,
                image_tokens=image_tokens,
            )
            return tokenizer(text).input_ids
        made_for = (tokenizer, prompt.template, prompt.system_message)
        # Kept, because it reads the whole vocabulary; taken once and replaced as one, because threads share it.
        kept = self._encoder
        if kept is None or kept[0] != made_for:
            kept = self._encoder = (made_for, self.text_encoder(tokenizer, prompt.system_message))
        counts = [count * self.num_image_token for count in prompt.tiles]
        return kept[1].prompt(prompt.turns, counts).tolist()

    def text_encoder(self, tokenizer: Any, system_message: str) -> ChatTextEncoder:
        """What turns conversations into the ids this model reads."""
        return prompt_encoder(tokenizer, self._template(), system_message)

    def context_id(self, tokenizer: Any, token: str = IMG_CONTEXT) -> int:
        """What stands in these ids for a visual token.

        Raises:
            DataError: The tokenizer does not know it.
        """
        return token_id(tokenizer, token)

    def _stop_id(self, tokenizer: Any) -> int:
        stop = self._template().stop
        # A template without a separator ends its answers with the tokenizer's own token.
        return token_id(tokenizer, stop) if stop else tokenizer.eos_token_id

    @torch.no_grad()
    def encode_tiles(self, pixel_values: Tensor) -> Tensor:
        """What :meth:`extract_feature` gives, ``[M, T, H]``, with the activations of a few tiles at a time."""
        return torch.cat([self.extract_feature(tiles) for tiles in pixel_values.split(_TILES_AT_ONCE)])

    @torch.no_grad()
    def generate(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        visual_features: Tensor | None = None,
        generation_config: Any = None,
        output_hidden_states: bool | None = None,
        **settings: Any,
    ) -> Any:
        """Continue prompts with placeholders; those of a batch are read without their padding.

        Args:
            pixel_values: Tiles ``[M, 3, S, S]``.
            input_ids: ``[B, L]``; ``img_context_token_id`` marks the places.
            attention_mask: ``[B, L]``.
            visual_features: What :meth:`extract_feature` gave, ``[M, T, H]``, instead of pixels.
            generation_config: A transformers ``GenerationConfig``.
            output_hidden_states: Passed on.
            **settings: Of transformers' ``generate``.

        Returns:
            The new ids alone, ``[B, new]``, or what ``return_dict_in_generate`` asks for.
        """
        if visual_features is None and pixel_values is not None:
            visual_features = self.encode_tiles(pixel_values)
        embeddings = self.embed(input_ids, visual_features)
        if attention_mask is not None:
            attention_mask = attention_mask.to(embeddings.device)
        # As published, whatever the config of the language model says.
        settings.setdefault('use_cache', True)
        settings['output_hidden_states'] = output_hidden_states
        if can_pack(self.language_model, attention_mask, settings, generation_config):
            settings['past_key_values'] = prefill_packed(self.language_model, embeddings, attention_mask)
        # Given embeddings without ids, transformers returns the new ids alone.
        return self.language_model.generate(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            generation_config=generation_config,
            **settings,
        )


def _tiles_of_samples(
    pixel_values: Tensor | None, given: Sequence[int | Sequence[int]] | None, samples: int
) -> list[list[int]]:
    """Tiles of each image of each sample."""
    if not samples:
        raise DataError('questions is empty: give at least one question')
    total = 0 if pixel_values is None else len(pixel_values)
    if isinstance(given, (Tensor, np.ndarray)):
        given = given.tolist()
    # As many tiles for each; without tiles there are no images, whatever the list says.
    if given is None or not total:
        if total % samples:
            raise DataError(f'{total} tiles cannot be shared by {samples} questions: give num_patches_list')
        return [[total // samples] if total else [] for _ in range(samples)]
    tiles = [
        # A number is one image; numpy's are no int.
        ([int(entry)] if entry else []) if isinstance(entry, int | Integral) else list(entry)  # type: ignore[arg-type]
        for entry in given
    ]
    counted = sum(map(sum, tiles))
    if len(tiles) != samples or counted != total:
        raise DataError(
            f'num_patches_list={list(given)} is about {len(tiles)} samples and {counted} tiles; there are {samples} '
            f'questions and {total} tiles'
        )
    for counts in tiles:
        check_tiles(counts)
    return tiles
