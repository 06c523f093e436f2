"""A conversation with a chat model that remembers what it has computed.

Visual tokens of an image are computed once, and keys and values of the text so far are kept: a later turn only reads
what is new. Answers are those of ``model.chat`` with the whole history.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from internvl_mm.models.chat_generation import ChatGeneration
from internvl_mm.models.chat_prompt import IMAGE, answer_of
from internvl_mm.models.generation_settings import check_generation
from internvl_mm.models.packed_prefill import positions_move
from internvl_mm.preprocess.conversation import Turn
from internvl_mm.utils.errors import DataError

_TIMEOUT = 600.0  # seconds without a new piece of text before a stream gives up


class _Stop(StoppingCriteria):
    """Ends a generation when another thread asks for it."""

    asked = False

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        """Whether each row ``[B]`` is done."""
        del scores, kwargs
        return torch.full((len(input_ids),), self.asked, dtype=torch.bool, device=input_ids.device)


class ChatSession:
    """One conversation.

    Args:
        model: A chat model.
        tokenizer: Its tokenizer.
        system_message: Instead of the model's.
        settings: Of generation, for every turn; by default greedy, at most 512 new tokens.

    Attributes:
        history: Questions, with ``<image>``, and answers so far.
        reused: Tokens of the last turn that were not read again.

    Raises:
        ConfigError: A setting of generation is unknown, or its value is not possible.
    """

    def __init__(
        self,
        model: ChatGeneration,
        tokenizer: Any,
        *,
        system_message: str | None = None,
        settings: dict[str, Any] | None = None,
    ):
        self.model, self.tokenizer = model, tokenizer
        message = model.system_message if system_message is None else system_message
        self.template = model._template()
        self.settings = settings or dict(max_new_tokens=512, do_sample=False)
        check_generation(self.settings)
        self._encoder = model.text_encoder(tokenizer, message)
        self._context = model.context_id(tokenizer)
        self._stop = model._stop_id(tokenizer)
        self.reset()

    def reset(self) -> None:
        """Forget the conversation and its images."""
        self.history: list[Turn] = []
        self.reused = 0
        self._visual: list[Tensor] = []  # per image, [T, H] of all its tiles
        self._cache, self._cached = DynamicCache(), torch.empty(0, dtype=torch.long)

    @property
    def num_images(self) -> int:
        """Images of the conversation so far."""
        return len(self._visual)

    def place_images(self, question: str, count: int) -> str:
        """Put ``<image>`` for ``count`` new images in front of a question that does not say where they go."""
        if IMAGE in question or not count:
            return question
        if count == 1 and not self._visual:
            return f'{IMAGE}\n{question}'
        first = len(self._visual) + 1
        lines = [f'Image-{number}: {IMAGE}\n' for number in range(first, first + count)]
        return ''.join(lines) + question

    @torch.no_grad()
    def ask(self, question: str, images: Sequence[Tensor] = (), **settings: Any) -> str:
        """Answer the next question.

        Args:
            question: May hold ``<image>``, one per image.
            images: New images, normalised tiles ``[T, 3, S, S]`` each.
            **settings: Of generation, for this turn.

        Raises:
            ConfigError: A setting is unknown, or its value is not possible.
            DataError: Images and ``<image>`` do not agree; the conversation stays as it was.
        """
        # The stop token last: no setting may replace the one the template ends answers with.
        chosen = {**self.settings, **settings, 'eos_token_id': self._stop}
        chosen.setdefault('pad_token_id', self.tokenizer.pad_token_id)
        check_generation(chosen)
        _check_single(chosen)
        question = self.place_images(question, len(images))
        # [T, tokens per tile, H] -> [T · tokens per tile, H] of each image
        visual = [self.model.encode_tiles(tiles).flatten(0, 1) for tiles in images]
        counts = [len(tokens) for tokens in (*self._visual, *visual)]
        ids = torch.from_numpy(self._encoder.prompt([*self.history, (question, None)], counts))
        embeddings = self._embed(ids, [*self._visual, *visual])
        length = self._keep_common(ids, chosen.get('max_new_tokens') or 0)
        # Until all layers have been written: whoever interrupts leaves them uneven.
        self._cached = self._cached[:0]
        if len(ids) - 1 > length:
            # All but the last token, which generation reads: it is text of the template, never an image's.
            self.model.language_model.model(
                inputs_embeds=embeddings[:, length:-1], past_key_values=self._cache, use_cache=True
            )
        # Embeddings, as in chat: penalties for repetition are then about the answer, not about words of the prompt.
        output = self.model.language_model.generate(
            inputs_embeds=embeddings,
            attention_mask=torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device),
            past_key_values=self._cache,
            **chosen,
        )[0].cpu()
        # The last token was given out but not yet read.
        self._cached = torch.cat([ids, output])[: self._cache.get_seq_length()]
        answer = self._decode(output)
        self._visual += visual
        self.history.append((question, answer))
        return answer

    def stream(
        self, question: str, images: Sequence[Tensor] = (), **settings: Any
    ) -> Generator[str, None, None]:
        """Answer the next question piece by piece; see :meth:`ask`.

        Whoever stops reading ends the answer: what it was until then is part of the history.
        """
        streamer = TextIteratorStreamer(
            self.tokenizer,
            skip_prompt=True,
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
            timeout=_TIMEOUT,
        )
        stop = _Stop()
        criteria = StoppingCriteriaList([*settings.pop('stopping_criteria', ()), stop])
        # Left only when the thread has ended: no answer goes on beside the next question or the end of the process.
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(
                self.ask, question, images, streamer=streamer, stopping_criteria=criteria, **settings
            )
            # A failure ends the text too, whatever it is; it is raised below.
            answer.add_done_callback(lambda _: streamer.end())
            try:
                yield from (piece for piece in streamer if piece)
            finally:
                stop.asked = True
            answer.result()

    def _embed(self, ids: Tensor, visual: Sequence[Tensor]) -> Tensor:
        """``[1, L, H]``."""
        embeddings = self.model.embed(ids[None], None)
        if not visual:
            return embeddings
        places = (ids[None] == self._context).to(embeddings.device).unsqueeze(-1)
        # Places [1, L, 1] hold for all of H; features fill them in order of images, tiles and tokens.
        return embeddings.masked_scatter(places, torch.cat(list(visual)).to(embeddings))

    def _keep_common(self, ids: Tensor, new: int) -> int:
        """Cut the cache to what it shares with the prompt, and return how much that is."""
        # One token at least is read anew: generation begins with its logits.
        length = min(len(ids) - 1, len(self._cached))
        differs = (ids[:length] != self._cached[:length]).nonzero()
        length = int(differs[0]) if len(differs) else length
        if positions_move(self.model.language_model.config, len(ids) + new):
            length = 0
        surplus = self._cache.get_seq_length() - length
        if not length:
            self._cache = DynamicCache()
        elif surplus:
            self._cache.crop(-surplus)  # transformers takes the number to remove, as a negative one
        self.reused = length
        return length

    def _decode(self, ids: Tensor) -> str:
        text = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if getattr(self.tokenizer, 'clean_up_tokenization_spaces', False):
            text = self.tokenizer.clean_up_tokenization(text)
        return answer_of(text, self.template)


def _check_single(settings: dict[str, Any]) -> None:
    """Refuse what needs more than one cache."""
    if settings.get('num_beams', 1) > 1:
        raise DataError('num_beams above 1 needs a cache per beam: use model.chat for beam search')
    if (count := settings.get('num_return_sequences', 1)) > 1:
        raise DataError(
            f'num_return_sequences={count}: a conversation goes on with one answer; ask several sessions with '
            'do_sample=True, or use model.generate'
        )
