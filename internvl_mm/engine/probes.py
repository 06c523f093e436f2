"""Probes: what a frozen backbone's features are worth, from a :class:`FeatureSet` in seconds.

A probe eats the features of the training data and of named benchmarks and gives one row of scores per setting it tries.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from internvl_mm.engine.features import FeatureSet, as_features, trains_on_tokens
from internvl_mm.evaluation.knn import knn_scores
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.tasks import BaseTask, ImageTextTask
from internvl_mm.registry import PROBES
from internvl_mm.utils.console import progress_bar
from internvl_mm.utils.errors import ConfigError

# (benchmark, logits [n, K] of its images) -> metrics of that benchmark
Judge = Callable[[str, Tensor], dict[str, float]]


@dataclass(frozen=True)
class ProbeRow:
    """Scores of one setting.

    Attributes:
        setting: What was tried, e.g. ``{'lr': 0.1, 'weight_decay': 0.0}``.
        metrics: ``'<benchmark>/<metric>'`` to value.
        module: The trained probe, ``None`` for those without parameters.
    """

    setting: dict[str, float]
    metrics: dict[str, float]
    module: nn.Module | None = None


class BaseProbe(ABC):
    """The probe slot."""

    @abstractmethod
    def run(
        self, task: BaseTask, train: FeatureSet, tests: dict[str, FeatureSet], judge: Judge
    ) -> list[ProbeRow]:
        """Try every setting.

        Args:
            task: The task whose neck (if it trains) and head are probed; left unchanged.
            train: Features to learn from.
            tests: Benchmark to its features.
            judge: Scores the logits of a benchmark.

        Returns:
            One row per setting, in the order they were listed.
        """


@PROBES.register_module()
class KNNProbe(BaseProbe):
    """k-nearest-neighbour voting; see :func:`~internvl_mm.evaluation.knn.knn_scores`.

    Args:
        ks: Numbers of neighbours to try.
        temperature: Softness of the votes.
        chunk: Queries per matrix product, bounds the memory.
    """

    def __init__(self, ks: Sequence[int] = (20,), *, temperature: float = 0.07, chunk: int = 1024):
        if not ks or min(ks) < 1:
            raise ConfigError(
                f'probe.ks={list(ks)}: at least one number of neighbours is needed, each at least 1'
            )
        self.ks, self.temperature, self.chunk = tuple(ks), temperature, chunk

    def run(
        self, task: BaseTask, train: FeatureSet, tests: dict[str, FeatureSet], judge: Judge
    ) -> list[ProbeRow]:
        """See :class:`BaseProbe`; all views of the training images join the bank."""
        # [V n, C], with as many labels; views of one image vote separately.
        bank = torch.cat([features for features, _ in train.views])
        labels = torch.cat([train.labels(view) for view in range(len(train.views))])
        if max(self.ks) > len(bank):
            raise ConfigError(
                f'probe.ks={list(self.ks)}: only {len(bank)} training features can vote: lower it, or give more data '
                'or features.views'
            )
        rows = []
        for k in self.ks:
            metrics: dict[str, float] = {}
            for name, test in tests.items():
                scores = [
                    knn_scores(
                        queries,
                        bank,
                        labels,
                        num_classes=train.dataset.num_classes,
                        k=k,
                        temperature=self.temperature,
                    )
                    # [chunk, C]: similarities take chunk x V n values.
                    for queries in test.views[0][0].split(self.chunk)
                ]
                metrics |= judge(name, torch.cat(scores))
            rows.append(ProbeRow(dict(k=k), metrics))
        return rows


class FeatureProbe(nn.Module):
    """What trains on stored features: the head, after the neck where the neck trains too.

    Args:
        neck: Pools token sequences; ``None`` when pooled features are stored.
        head: Vectors to logits.
        grid: Patch grid (h, w) of stored token sequences.
    """

    def __init__(self, neck: nn.Module | None, head: nn.Module, grid: tuple[int, int]):
        super().__init__()
        self.neck, self.head, self.grid = neck, head, grid

    @classmethod
    def of(cls, task: BaseTask, features: FeatureSet) -> FeatureProbe:
        """Copy the trainable parts of a task, with the weights they have now; image–text tasks get a new head."""
        if isinstance(task, ImageTextTask):
            # [n, E]: their embeddings are classified as they are.
            width, dataset = features.views[0][0].shape[-1], features.dataset
            return cls(None, LinearClsHead(width, dataset.num_classes), features.grid)
        grid = features.grid
        # A frozen neck was applied before storing.
        neck = copy.deepcopy(task.neck) if trains_on_tokens(task) else None
        return cls(neck, copy.deepcopy(task.head), grid)

    def forward(self, stored: Tensor) -> Tensor:
        """Classify stored features ``[B, C]`` or tokens ``[B, 1+N, D]``."""
        return self.head(stored if self.neck is None else self.neck(as_features(stored, self.grid)))


def warmup_cosine(total: int, warmup: int) -> Callable[[int], float]:
    """Factor of the learning rate at a step: linear from 0, then the cosine at the absolute step (timm's rule)."""

    def factor(step: int) -> float:
        # Absolute step: the cosine is already below 1 where the warm-up ends.
        return step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * min(step, total) / total))

    return factor


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


class _Candidate:
    """One head in training: its own weights and optimiser, the same batches as all others.

    The recipe is the published one: Nesterov SGD, linear warm-up, cosine evaluated at the absolute step.
    """

    def __init__(self, module: nn.Module, lr: float, weight_decay: float, schedule: Callable[[int], float]):
        # A copy of parts that the extraction left in evaluation mode.
        self.module = module.train()
        # Published: a rate of 0.1 per 512 images of a batch.
        self.optimizer = torch.optim.SGD(
            [p for p in module.parameters() if p.requires_grad],
            lr=lr,
            # As published for every InternViT probe; only rate and decay are swept.
            momentum=0.9,
            nesterov=True,
            weight_decay=weight_decay,
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, schedule)

    def step(self, features: Any, labels: Tensor, label_smoothing: float) -> None:
        """One update on a batch of stored features."""
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self.module(features), labels, label_smoothing=label_smoothing).backward()
        self.optimizer.step()
        self.scheduler.step()


@PROBES.register_module()
class SweepProbe(BaseProbe):
    """Train the task's head for every learning rate and weight decay, all on the same stream of cached batches.

    Args:
        learning_rates: Learning rates to try, as they reach the optimiser (no scaling by the batch).
        weight_decays: Weight decays to try, each with every learning rate.
        epochs: Passes over the data; pass e reads view ``e mod V``.
        batch_size: Images per step.
        warmup_epochs: Linear warm-up from 0.
        label_smoothing: Of the cross entropy.
        seed: Of the order. Initial weights are those of the task's head, the same for all.
    """

    def __init__(
        self,
        learning_rates: Sequence[float],
        weight_decays: Sequence[float] = (0.0,),
        *,
        epochs: int = 10,
        batch_size: int = 256,
        warmup_epochs: float = 1,
        label_smoothing: float = 0.0,
        seed: int = 0,
    ):
        if not learning_rates or not weight_decays:
            raise ConfigError('probe.learning_rates and probe.weight_decays need at least one value each')
        self.settings = [
            dict(lr=lr, weight_decay=decay) for lr, decay in product(learning_rates, weight_decays)
        ]
        self.epochs, self.batch_size, self.warmup_epochs = epochs, batch_size, warmup_epochs
        self.label_smoothing, self.seed = label_smoothing, seed

    def run(
        self, task: BaseTask, train: FeatureSet, tests: dict[str, FeatureSet], judge: Judge
    ) -> list[ProbeRow]:
        """See :class:`BaseProbe`."""
        steps = len(self._batches(torch.arange(len(train.views[0][1]))))
        schedule = warmup_cosine(steps * self.epochs, round(steps * self.warmup_epochs))
        candidates = [
            _Candidate(FeatureProbe.of(task, train), **setting, schedule=schedule)
            for setting in self.settings
        ]
        generator = torch.Generator().manual_seed(self.seed)
        with progress_bar() as progress:
            bar = progress.add_task(f'{len(candidates)} probes', total=self.epochs)
            for epoch in range(self.epochs):
                self._epoch(candidates, train, epoch % len(train.views), generator)
                progress.advance(bar)
        return [
            ProbeRow(setting, self._score(candidate.module, tests, judge), candidate.module)
            for setting, candidate in zip(self.settings, candidates, strict=True)
        ]

    def _epoch(
        self, candidates: list[_Candidate], train: FeatureSet, view: int, generator: torch.Generator
    ) -> None:
        # [n, C] or [n, 1+N, D] on the CPU, and [n].
        features, labels = train.views[view][0], train.labels(view)
        device = _device(candidates[0].module)
        # On the CPU, from one seed: the order is the same on every device and for every setting.
        for batch in self._batches(torch.randperm(len(labels), generator=generator)):
            # One read for all candidates is what makes a sweep cheap; stored halves compute in fp32.
            inputs, targets = features[batch].to(device).float(), labels[batch].to(device)
            for candidate in candidates:
                candidate.step(inputs, targets, self.label_smoothing)

    def _batches(self, order: Tensor) -> list[Tensor]:
        """Positions ``[n]`` in batches; the last may be smaller, and larger by one that would be left alone."""
        batches = list(order.split(self.batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1:
            # A batch norm cannot train on a single sample.
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    @torch.no_grad()
    def _score(self, module: nn.Module, tests: dict[str, FeatureSet], judge: Judge) -> dict[str, float]:
        module.eval()
        device = _device(module)
        metrics: dict[str, float] = {}
        for name, test in tests.items():
            # Evaluation data has one view.
            batches = test.views[0][0].split(self.batch_size)
            metrics |= judge(name, torch.cat([module(batch.to(device).float()).cpu() for batch in batches]))
        return metrics
