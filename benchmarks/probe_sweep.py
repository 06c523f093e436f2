"""Ten learning rates on cached features against ten end-to-end probes of the same frozen backbone, same images.

Both sides see the same two augmented views of every image in the same order, so the heads have to agree: the gate is
an equal accuracy for every learning rate within 0.3 points (one test image). Reading and decoding count on both sides.
"""

from __future__ import annotations

import tempfile
import time

import torch
from torch.utils.data import DataLoader

from benchmarks.harness import Row
from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import DigitSceneDataset
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.engine.features import FeatureCache
from internvl_mm.engine.probes import SweepProbe
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import ClsPatchConcat
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.preprocess.batch import ImageDataPreprocessor

LEARNING_RATES = [0.001 * 2**step for step in range(10)]
VIEWS, BATCH = 2, 64
GATE = 0.3  # points of accuracy


class EndToEnd(SweepProbe):
    """The same recipe, but every batch is read, decoded and run through the backbone again."""

    def __init__(self, lr: float, task: ImageClassifier, **options):
        super().__init__([lr], **options)
        self.task = task

    def _epoch(self, candidates, train, view, generator):
        order = torch.randperm(len(train.dataset), generator=generator).tolist()
        loader = DataLoader(
            train.dataset,
            sampler=[SampleIndex(index, view) for index in order],
            batch_size=self.batch_size,
            collate_fn=collate_samples,
        )
        for batch in loader:
            data = self.task.data_preprocessor(batch, training=False)
            with torch.no_grad():
                features = self.task.extract(data['inputs'])
            labels = torch.cat([sample.gt_label for sample in data['data_samples']])
            candidates[0].step(features, labels, self.label_smoothing)


def build_task() -> ImageClassifier:
    """A frozen random backbone of the tiny size: its features are what both sides probe."""
    torch.manual_seed(0)
    backbone = InternViT(
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=384,
        image_size=56,
        frozen='all',
    )
    backbone.init_weights()
    return ImageClassifier(
        backbone=backbone,
        neck=dict(type=ClsPatchConcat),
        head=dict(type=LinearClsHead, num_classes=10),
        data_preprocessor=ImageDataPreprocessor(),
    )


def run(quick: bool = False) -> list[Row]:
    """One row: seconds of the cached sweep (extraction included) against ten end-to-end probes."""
    epochs = 2 if quick else 6
    task = build_task()
    train = DigitSceneDataset('train', length=200 if quick else None)
    test = DigitSceneDataset('test')
    options = dict(epochs=epochs, batch_size=BATCH, warmup_epochs=1)

    def judge(name: str, logits: torch.Tensor) -> dict[str, float]:
        return {name: 100 * (logits.argmax(1) == torch.from_numpy(test.targets)).float().mean().item()}

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        cache = FeatureCache(folder, views=VIEWS)
        stored, tests = cache.extract(task, train), {'top1': cache.extract(task, test, views=1)}
        cached = SweepProbe(LEARNING_RATES, **options).run(task, stored, tests, judge)
        ours = time.perf_counter() - started
        started = time.perf_counter()
        direct = [EndToEnd(lr, task, **options).run(task, stored, tests, judge)[0] for lr in LEARNING_RATES]
        theirs = time.perf_counter() - started
    gaps = [abs(a.metrics['top1'] - b.metrics['top1']) for a, b in zip(cached, direct, strict=True)]
    if max(gaps) > GATE:
        raise AssertionError(
            f'cached and end-to-end probes differ by {max(gaps):.2f} points: nothing to compare'
        )
    note = f'{epochs} epochs, {VIEWS} views; largest difference {max(gaps):.2f} points; one run each'
    ratio = theirs / ours
    return [Row('10 learning rates', 'end-to-end probes', ours, theirs, 's', ratio, ratio, ratio, 8.0, note)]
