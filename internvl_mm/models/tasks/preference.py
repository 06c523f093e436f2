"""Preference optimisation of chat models: DPO, and MPO, its mixture with two other losses.

Shape letters: N pairs, B = 2N rows (chosen answers, then rejected ones), L length, T tokens per tile, H width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from internvl_mm.models.losses.chunked_cross_entropy import LossHead
from internvl_mm.models.losses.preference import PREFERENCE_LOSSES, RunningMean
from internvl_mm.registry import MODELS
from internvl_mm.structures import IGNORE, ChatBatch
from internvl_mm.utils.errors import ConfigError, did_you_mean

from .chat_tuning import ChatTuning, next_tokens


@MODELS.register_module()
class PreferenceTuning(ChatTuning):
    """A chat model that learns to prefer one answer to another, and not to drift from a reference.

    The reference is the model without its adapters, or, where weights themselves train, a frozen copy of what training
    began with, which is part of the training state. Tiles of a pair go through the vision tower once.

    Args:
        losses: Weights of the losses of a pair, ``'sigmoid'`` (DPO) and ``'bco_pair'``.
        rpo_alpha: Weight of the mean cross-entropy of the chosen answers' tokens.
        beta: Scale of rewards.
        **options: Of :class:`ChatTuning`.

    Raises:
        ConfigError: Unknown losses; see also :class:`ChatTuning`.

    Source: Wang et al. 2024, "Mixed Preference Optimization" (arXiv 2411.10442); its recipe is
        ``losses=dict(sigmoid=0.8, bco_pair=0.2), rpo_alpha=1``.
    """

    @classmethod
    def check_config(cls, *, losses: Any = None, **others: Any) -> list[str]:
        """What is wrong with the settings."""
        del others
        named = losses if isinstance(losses, Mapping) else {}
        return [
            f'losses names {name!r}; there are {", ".join(PREFERENCE_LOSSES)}.'
            + did_you_mean(str(name), PREFERENCE_LOSSES)
            for name in named
            if name not in PREFERENCE_LOSSES
        ]

    def __init__(
        self,
        *,
        losses: Mapping[str, float] | None = None,
        rpo_alpha: float = 0.0,
        beta: float = 0.1,
        **options: Any,
    ):
        super().__init__(**options)
        self.losses = dict(losses or dict(sigmoid=1.0))
        if problems := self.check_config(losses=self.losses):
            raise ConfigError(problems[0])
        self.rpo_alpha, self.beta = rpo_alpha, beta
        self.rewards = RunningMean()

    def adapt(self) -> None:
        """See :class:`ChatTuning`; then keep the reference, once: the trained model must not become it."""
        super().adapt()
        # What trains besides adapters; without it, switching adapters off gives the reference.
        if any(part.train != 'none' for part in self.parts.values()):
            self.reference = copy.deepcopy(self.chat).eval()
            for module in self.reference.modules():
                if isinstance(module, BaseTunerLayer):
                    module.enable_adapters(False)
            self.reference.requires_grad_(False)

    def train(self, mode: bool = True) -> PreferenceTuning:
        """Set the mode; the reference stays in evaluation mode."""
        super().train(mode)
        if 'reference' in self._modules:
            self.reference.eval()
        return self

    def loss(self, inputs: ChatBatch, data_samples: list[Any]) -> dict[str, Tensor]:
        """Weighted sum of the losses; also logs each, and how the rewards of chosen and rejected answers compare.

        Raises:
            DataError: An answer has no token to learn.
        """
        self._check_labels(inputs, data_samples)
        own = self.answer_log_probabilities(inputs)  # [B, L]
        with torch.no_grad(), self._as_reference():
            reference = self.answer_log_probabilities(inputs)  # [B, L]
        logs, size = {}, len(inputs) // 2
        # [2N, L] summed over tokens: the rewards of 2N answers, chosen ones first.
        chosen, rejected = (self.beta * (own - reference).sum(dim=1)).split(size)  # [N] each
        shift = self.rewards.update(torch.cat([chosen, rejected])) if 'bco_pair' in self.losses else None
        total = chosen.new_zeros(())
        for name, weight in self.losses.items():
            logs[name] = PREFERENCE_LOSSES[name](chosen, rejected, shift).mean()
            total = total + weight * logs[name]
        if self.rpo_alpha:
            learned = (next_tokens(inputs)[:size] != IGNORE).sum()
            # Over the tokens of all chosen answers, so that long answers weigh more.
            logs['chosen_nll'] = -own[:size].sum() / learned
            total = total + self.rpo_alpha * logs['chosen_nll']
        logs = {name: value.detach() for name, value in logs.items()}
        right = (chosen > rejected).float().mean()
        return dict(
            loss=total, **logs, reward_accuracy=right, reward_margin=(chosen - rejected).detach().mean()
        )

    def answer_log_probabilities(self, batch: ChatBatch) -> Tensor:
        """Log-probability of every answer token, ``[B, L]``, 0 elsewhere."""
        visual = self.visual_tokens(batch)
        if len(batch.tiles):
            visual = torch.cat([visual, visual])  # both answers are about the same tiles
        hidden = self.language_states(batch, visual)  # [B, L, H]
        targets = next_tokens(batch)
        head: LossHead = self.chat.language_model.get_output_embeddings()
        return head.log_probabilities(hidden.flatten(0, 1), targets.flatten()).view_as(targets)

    @contextmanager
    def _as_reference(self) -> Iterator[None]:
        """Inside, ``self.chat`` computes what the reference computes."""
        if 'reference' in self._modules:
            policy, self.chat = self.chat, self.reference
            try:
                yield
            finally:
                self.chat = policy
            return
        adapted = [module for module in self.chat.modules() if isinstance(module, BaseTunerLayer)]
        trained = [parameter for parameter in self.chat.parameters() if parameter.requires_grad]
        for module in adapted:
            module.enable_adapters(False)
        try:
            yield
        finally:
            for module in adapted:
                module.enable_adapters(True)
            # peft froze the adapters when it switched them off; what trained before trains again.
            for parameter in trained:
                parameter.requires_grad_(True)
