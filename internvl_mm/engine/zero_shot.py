"""Zero-shot evaluation from cached embeddings: classification from names, retrieval both ways, one table.

Shape letters: n images, T texts, C classes, E width of the joint space.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from mmengine.dist import get_dist_info
from torch import Tensor

from internvl_mm.data.datasets import ImageTextDataset, OnePerImage
from internvl_mm.data.ledger import Ledger
from internvl_mm.evaluation.metrics import RetrievalRecall, ZeroShotAccuracy
from internvl_mm.models.tasks import ImageTextTask
from internvl_mm.models.tasks.image_text import ZERO_SHOT_SCALE
from internvl_mm.registry import LOOPS, RUNNERS
from internvl_mm.structures import BadSample
from internvl_mm.utils.console import console
from internvl_mm.utils.errors import ConfigError, DataError

from .config.checking import find_part
from .config.signatures import signature_of
from .features import FeatureCache
from .loops import BenchmarkLoop
from .runner import Runner
from .text_features import TextCache

CHUNK = 2048  # images scored at a time: with 1,000 classes 8 MB of scores in fp32
FROM_EMBEDDINGS = (ZeroShotAccuracy, RetrievalRecall)


@LOOPS.register_module()
class ZeroShotLoop(BenchmarkLoop):
    """A :class:`BenchmarkLoop` that embeds every image and every text once and keeps them on disk.

    Benchmarks whose metrics need more than embeddings run as they always do.

    Args:
        runner: The runner; its task is an :class:`~internvl_mm.models.tasks.ImageTextTask`.
        benchmarks: See :class:`BenchmarkLoop`.
        images: Embeddings of images.
        texts: Embeddings of captions and of classes.
    """

    def __init__(self, runner: Any, benchmarks: dict[str, dict], images: FeatureCache, texts: TextCache):
        super().__init__(runner, benchmarks, 'test')
        self.images, self.texts = images, texts

    def _evaluate(self) -> dict[str, float]:
        if not all(isinstance(metric, FROM_EMBEDDINGS) for metric in self.evaluator.metrics):
            return super()._evaluate()
        dataset, task = self.dataloader.dataset, self.runner.strategy.task
        if not isinstance(task, ImageTextTask):
            raise ConfigError(
                f"benchmark '{self.current}' compares images with texts, but model={type(task).__name__} has no text "
                'tower: take a model of InternVL-C or -G (configs/_base_/zero_shot.py)'
            )
        of_pairs = isinstance(dataset, ImageTextDataset) and self.current not in self.prompts
        chunks = self._pairs(task, dataset) if of_pairs else self._classified(task, dataset)
        for samples in chunks:
            self.evaluator.process(data_samples=samples)
        return self.evaluator.evaluate(len(dataset))

    def _classified(self, task: ImageTextTask, dataset: Any) -> Iterator[list[dict[str, Any]]]:
        """Images with their class scores, this process's share."""
        if self.current not in self.prompts:
            raise ConfigError(
                f"benchmarks['{self.current}'] has no prompts: name classes and templates with "
                "prompts=dict(type=DatasetPrompts, dataset='imagenet1k')"
            )
        # Texts first: a mistake in names is told before hours of images.
        # [C, E]
        classes = self.texts.embed(task, self.prompts[self.current].sentences(), what=self.current).vectors
        # [n, E] and [n]
        images = self.images.extract(task, dataset, views=1)
        (vectors, positions), labels = images.views[0], images.labels()
        rank, world_size = get_dist_info()
        # Chunks in turns: metrics gather by sample, so that any split among processes gives the same number.
        for start in range(rank * CHUNK, len(positions), world_size * CHUNK):
            piece = slice(start, start + CHUNK)
            # In fp32: stored embeddings may be halves, whose norms would be rounded.
            unit = F.normalize(vectors[piece].float(), dim=-1)  # [chunk, E]
            scores = ZERO_SHOT_SCALE * unit @ classes.t()  # [chunk, C]
            yield [
                dict(dataset=dataset.name, index=index, gt_label=label, pred_logits=score)
                for index, label, score in zip(positions[piece].tolist(), labels[piece][:, None], scores)
            ]

    def _pairs(self, task: ImageTextTask, dataset: ImageTextDataset) -> Iterator[list[dict[str, Any]]]:
        """Pairs with the embeddings of their image and caption, this process's share."""
        captions = self._captions(dataset)
        texts = self.texts.embed(task, [[text] for text in captions.values()], what=dataset.name)
        if cut := int(texts.cut.sum()):
            console.print(
                f'{dataset.name}: {cut} of {len(captions)} captions have more than {task.tokenizer.max_length} tokens '
                'and were cut, as published'
            )
        images = OnePerImage(dataset)
        # [images, E] and [images]
        vectors, positions = self.images.extract(task, images, views=1).views[0]
        # From the number of an image to its unit vector; images that could not be read have none.
        ids = dataset.image_ids[positions.numpy()].tolist()
        of_image = dict(zip(ids, F.normalize(vectors.float(), dim=-1)))
        rank, world_size = get_dist_info()
        # One row per caption: an image with five captions is five pairs.
        rows = list(zip(captions.items(), texts.vectors))
        for start in range(rank * CHUNK, len(rows), world_size * CHUNK):
            yield [
                _pair(dataset, index, caption, of_image[image], vector)
                for (index, caption), vector in rows[start : start + CHUNK]
                # Of an image that could not be read all captions go, too: the ledger has it.
                if (image := int(dataset.image_ids[index])) in of_image
            ]

    def _captions(self, dataset: ImageTextDataset) -> dict[int, str]:
        """Caption of each pair that has one; pairs without one follow ``on_error`` of the data set."""
        ledger = Ledger(Path(self.runner.log_dir) / f'bad_samples_{os.getpid()}.jsonl')
        captions = {}
        for index in range(len(dataset)):
            try:
                captions[index] = dataset.caption(index)
            except DataError as error:
                if dataset.on_error == 'fail':
                    raise
                ledger.update([BadSample(dataset.name, index, dataset.path(index), str(error))], 1)
        if ledger.num_bad:
            console.print(f'{ledger.num_bad} pairs of {dataset.name} have no caption: {ledger.path}')
        if not captions:
            raise DataError(
                f'none of the {len(dataset)} pairs of {dataset.name} has a caption: nothing to find'
            )
        return captions


def _pair(dataset: ImageTextDataset, index: int, caption: str, image: Tensor, text: Tensor) -> dict[str, Any]:
    number = int(dataset.image_ids[index])
    where = dict(dataset=dataset.name, index=index, image_id=number, caption=caption)
    return dict(where, pred_image=image, pred_text=text)


@RUNNERS.register_module()
class ZeroShotRunner(Runner):
    """Evaluate an image–text model on named benchmarks; a config chooses it with ``runner_type = ZeroShotRunner``.

    Args:
        model: An :class:`~internvl_mm.models.tasks.ImageTextTask`.
        features: Arguments of :class:`~internvl_mm.engine.features.FeatureCache`; texts go below the same folder.
        published: Repeat what the published numbers were measured with, known mistakes included, in every part of the
            benchmarks that distinguishes the two; docs/zero_shot.md lists them.
        benchmarks: Name to ``dict(dataloader=..., metrics=[...], prompts=...)``.
        options: The other arguments of :class:`Runner`.
    """

    training_keys = ()

    def __init__(
        self,
        model: Any,
        *,
        features: dict | None = None,
        published: bool = False,
        benchmarks: dict | None = None,
        **options: Any,
    ):
        chosen = {name: _as_published(parts, published) for name, parts in (benchmarks or {}).items()}
        super().__init__(model, benchmarks=chosen, **options)
        self.images = FeatureCache(**(features or {}))
        self.texts = TextCache(self.images.folder / 'texts', self.images.weights)

    def build_test_loop(self, loop: Any) -> BenchmarkLoop:
        """Build the loop over ``test_benchmarks``."""
        return loop if isinstance(loop, BenchmarkLoop) else ZeroShotLoop(self, loop, self.images, self.texts)


def _as_published(parts: dict, published: bool) -> dict:
    """The parts of a benchmark, those that take ``published`` told so."""

    def told(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        kind = find_part(part['type']) if isinstance(part['type'], str) else part['type']
        # By the signature: a part says that it distinguishes the two by taking the argument.
        knows = callable(kind) and 'published' in signature_of(kind).arguments
        # What the part says itself wins.
        return {'published': published, **part} if knows else part

    loader = dict(parts['dataloader'], dataset=told(parts['dataloader']['dataset']))
    rest = {'prompts': told(parts['prompts'])} if 'prompts' in parts else {}
    return dict(parts, dataloader=loader, metrics=[told(metric) for metric in parts['metrics']], **rest)
