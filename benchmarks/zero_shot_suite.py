"""A zero-shot suite (classification, retrieval and a probe) against clip-benchmark's loops, same model.

1000 classes × 80 templates and 2,000 pictures, in two classification benchmarks of the same pictures (names, and half
of them), one of retrieval with 5 captions per picture, and one linear probe, whose training is the same on both sides.
The model is a random InternVL-14B of 2 + 2 layers, 96 wide, 56 pixels.

The peer runs the published loops, class by class and batch by batch, with the published tokenizer setting: every text
padded to 80 tokens (row 1), and padded to the longest of its batch (row 2). Gate: accuracies and recalls within one
point. A third row asks again for what both have computed before, which ours reads from disk.
"""

from __future__ import annotations

import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from sentencepiece import SentencePieceTrainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import Row
from internvl_mm.data.captions import Pair
from internvl_mm.data.datasets import BaseDataset, ImageTextDataset, OnePerImage
from internvl_mm.engine.features import FeatureCache
from internvl_mm.engine.text_features import TextCache
from internvl_mm.evaluation.metrics import RetrievalRecall, ZeroShotAccuracy
from internvl_mm.evaluation.prompts import read_prompts
from internvl_mm.models.internvl_14b import InternVL14B
from internvl_mm.models.tasks import RetrievalFinetuning
from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.preprocess.caption_tokens import CaptionTokenizer

MAX_TOKENS = 80  # published length of texts
VOCABULARY = 2048
GATE = 1.0  # points
CAPTIONS = 5  # per picture, as in COCO and Flickr30k
PROBE_STEPS = 100


def _picture(number: int) -> Image.Image:
    pixels = torch.randint(0, 256, (56, 56, 3), generator=torch.Generator().manual_seed(number))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


class Pictures(BaseDataset):
    """Pictures of noise with labels in turn."""

    def __init__(self, count: int, classes: list[str]):
        super().__init__([number % len(classes) for number in range(count)], classes, name='pictures')

    def path(self, index: int) -> None:
        """They have no file."""

    def read(self, index: int) -> Image.Image:
        """See the base."""
        return _picture(int(index))


class Captioned(ImageTextDataset):
    """The same pictures with captions."""

    def __init__(self, count: int, texts: list[str]):
        pairs = [
            Pair(str(n), texts[n * CAPTIONS + k], str(n), {}) for n in range(count) for k in range(CAPTIONS)
        ]
        self.numbers = [int(pair.image) for pair in pairs]
        super().__init__(pairs, name='captioned')

    def path(self, index: int) -> None:
        """They have no file."""

    def image_fingerprint(self) -> str:
        """See the base."""
        return f'noise {len(self)}'

    def read(self, index: int) -> Image.Image:
        """See the base."""
        return _picture(self.numbers[int(index)])


def _vocabulary() -> CaptionTokenizer:
    """Pieces learned from the prompts, so that texts have about as many tokens as with the published vocabulary."""
    prompts = read_prompts('classnames', 'en'), read_prompts('templates', 'en')
    lines = [line.replace('{c}', '') for lists in prompts for each in lists.values() for line in each]
    with tempfile.TemporaryDirectory() as folder:
        SentencePieceTrainer.train(
            sentence_iterator=iter([*lines, 'summarize: English caption:', '0 1 2 3 4 5 6 7 8 9']),
            model_prefix=f'{folder}/tokenizer',
            vocab_size=VOCABULARY,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        return CaptionTokenizer(f'{folder}/tokenizer.model')


def build_task() -> RetrievalFinetuning:
    """A random InternVL-14B of the tests' size; weights large enough that embeddings differ."""
    torch.manual_seed(0)
    vision = dict(
        hidden_size=96, num_hidden_layers=2, num_attention_heads=4, intermediate_size=384, image_size=56
    )
    llama = dict(
        vocab_size=VOCABULARY, hidden_size=96, num_hidden_layers=2, num_attention_heads=4, intermediate_size=256,
        rms_norm_eps=1e-6, pad_token_id=0,
    )  # fmt: skip
    sizes = dict(num_query_token=8, clip_embed_dim=64, attn_pool_num_heads=4)
    model = InternVL14B(vision=vision, qllama=llama, **sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.15)
    task = RetrievalFinetuning(
        model=model,
        tokenizer=_vocabulary(),
        image_mode='InternVL-C',
        data_preprocessor=ImageDataPreprocessor(),
    )
    return task.eval()


class Ours:
    """The package's way: embeddings cached by content, texts batched by length."""

    def __init__(self, task: RetrievalFinetuning, folder: str):
        self.task, self.images = task, FeatureCache(folder)
        self.texts = TextCache(Path(folder) / 'texts')

    def classify(self, dataset: Pictures, sentences: list[list[str]]) -> dict[str, float]:
        """Accuracy of one benchmark."""
        classes = self.texts.embed(self.task, sentences, what='classes').vectors
        images = F.normalize(self.images.extract(self.task, dataset, views=1).views[0][0], dim=-1)
        return judge_classes(100 * images @ classes.t(), torch.from_numpy(dataset.targets))

    def retrieve(self, dataset: Captioned) -> dict[str, float]:
        """Recall of one benchmark."""
        texts = self.texts.embed(self.task, [[text] for text in dataset.captions], what='captions').vectors
        images = self.images.extract(self.task, OnePerImage(dataset), views=1).views[0][0]
        return judge_pairs(F.normalize(images, dim=-1), texts)

    def probe(self, dataset: Pictures) -> dict[str, float]:
        """Accuracy of a linear probe on the features that classification has left."""
        return fit_probe(self.images.extract(self.task, dataset, views=1).views[0][0], dataset)


class Peer:
    """clip-benchmark 1.6.2's loops: its functions where installed, the same steps written out otherwise."""

    def __init__(self, task: RetrievalFinetuning, *, fill: bool):
        self.task, self.fill = task, fill

    def encode_text(self, ids: Tensor) -> Tensor:
        """What its loop calls."""
        return self.task.encode_ids(ids)

    def tokenize(self, texts: list[str]) -> Tensor:
        """Ids, padded as the published wrapper does or to the longest."""
        ids = self.task.tokenizer.summaries(texts)
        return F.pad(ids, (0, MAX_TOKENS - ids.shape[1])) if self.fill else ids

    def encode_image(self, images: Tensor) -> Tensor:
        """Embeddings of a batch."""
        return self.task.encode_images(images)

    @torch.no_grad()
    def classifier(self, names: list[str], templates: list[str]) -> Tensor:
        """``zero_shot_classifier``: one class at a time, ``[E, C]``."""
        if find_spec('clip_benchmark'):
            from clip_benchmark.metrics.zeroshot_classification import zero_shot_classifier

            return zero_shot_classifier(self, self.tokenize, names, templates, 'cpu', amp=False)
        columns = []
        for name in names:
            ids = self.tokenize([template.format(c=name) for template in templates])
            mean = F.normalize(self.encode_text(ids), dim=-1).mean(dim=0)
            columns.append(mean / mean.norm())
        return torch.stack(columns, dim=1)

    @torch.no_grad()
    def classify(self, dataset: Pictures, names: list[str], templates: list[str]) -> dict[str, float]:
        """``evaluate`` of its classification."""
        columns, scores = self.classifier(names, templates), []
        for pixels, _ in DataLoader(_Plain(self.task, dataset), batch_size=64):
            scores.append(100 * F.normalize(self.encode_image(pixels), dim=-1) @ columns)
        return judge_classes(torch.cat(scores), torch.from_numpy(dataset.targets))

    def probe(self, dataset: Pictures) -> dict[str, float]:
        """``evaluate`` of its linear probe, which extracts the features for itself."""
        loader = DataLoader(_Plain(self.task, dataset), batch_size=64)
        with torch.no_grad():
            features = torch.cat([self.encode_image(pixels) for pixels, _ in loader])
        return fit_probe(features, dataset)

    @torch.no_grad()
    def retrieve(self, dataset: Captioned) -> dict[str, float]:
        """``evaluate`` of its retrieval: images with all their captions, 64 at a time."""
        images, texts = [], []
        for pixels, first in DataLoader(_Plain(self.task, OnePerImage(dataset)), batch_size=64):
            lines = [dataset.captions[int(start) + k] for start in first for k in range(CAPTIONS)]
            images.append(F.normalize(self.encode_image(pixels), dim=-1))
            texts.append(F.normalize(self.encode_text(self.tokenize(lines)), dim=-1))
        return judge_pairs(torch.cat(images), torch.cat(texts))


class _Plain(Dataset):
    """Normalised pixels and the index of a sample."""

    def __init__(self, task: RetrievalFinetuning, dataset: Dataset):
        self.task, self.dataset = task, dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        item = self.dataset[index]
        batch = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
        return self.task.data_preprocessor(batch, training=False)['inputs'][0], item['data_samples'].index


def fit_probe(features: Tensor, dataset: Pictures) -> dict[str, float]:
    """Train a linear layer on every other picture, as clip-benchmark does (AdamW), and test it on the others."""
    torch.manual_seed(0)
    features, labels = F.normalize(features, dim=-1), torch.from_numpy(dataset.targets)
    head = torch.nn.Linear(features.shape[1], len(dataset.classes))
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1)
    for _ in range(PROBE_STEPS):
        optimizer.zero_grad()
        F.cross_entropy(head(features[::2]), labels[::2]).backward()
        optimizer.step()
    return judge_classes(head(features[1::2]).detach(), labels[1::2])


def judge_classes(scores: Tensor, labels: Tensor) -> dict[str, float]:
    """Our metric on both sides' scores."""
    metric = ZeroShotAccuracy()
    metric.process(None, [
        dict(dataset='p', index=i, gt_label=labels[i : i + 1], pred_logits=scores[i]) for i in range(len(scores))
    ])  # fmt: skip
    return metric.evaluate(len(scores))


def judge_pairs(images: Tensor, texts: Tensor) -> dict[str, float]:
    """Our metric on both sides' vectors."""
    metric = RetrievalRecall(published=True)
    metric.process(None, [
        dict(dataset='p', index=i, image_id=i // CAPTIONS, caption='', pred_image=images[i // CAPTIONS], pred_text=text)
        for i, text in enumerate(texts)
    ])  # fmt: skip
    return metric.evaluate(len(texts))


def _gap(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> float:
    shares = ('top1', 'top5', 'mean_per_class', 'i2t_r1', 'i2t_r5', 't2i_r1', 't2i_r5')
    pairs = [(a[name], b[name]) for a, b in zip(ours, theirs, strict=True) for name in shares if name in a]
    return max(abs(a - b) for a, b in pairs)


def run(quick: bool = False) -> list[Row]:
    """Three rows: the suite against both paddings of the peer, and the suite asked again."""
    classes, count = (10, 20) if quick else (1000, 2000)
    names = list(dict.fromkeys(read_prompts('classnames', 'en')['imagenet1k']))[: 2 * classes]
    templates = read_prompts('templates', 'en')['imagenet1k']
    texts = [
        templates[n % 80].replace('{c}', names[n % len(names)]) + f' {n}' for n in range(count * CAPTIONS)
    ]
    task, pairs = build_task(), Captioned(count, texts)
    # As ImageNet-1K and ImageNet-R: other names, of which a part is in the first list.
    suite = [(Pictures(count, chosen), chosen) for chosen in (names[:classes], names[: classes // 2])]

    def ours(side: Ours) -> list[dict[str, float]]:
        filled = [[[t.replace('{c}', n) for t in templates] for n in chosen] for _, chosen in suite]
        found = [side.classify(data, sentences) for (data, _), sentences in zip(suite, filled)]
        return [*found, side.retrieve(pairs), side.probe(suite[0][0])]

    def theirs(side: Peer) -> list[dict[str, float]]:
        found = [side.classify(data, chosen, templates) for data, chosen in suite]
        return [*found, side.retrieve(pairs), side.probe(suite[0][0])]

    seconds: dict[str, list[float]] = dict(ours=[], filled=[], longest=[], again=[])
    gap = 0.0
    for _ in range(1 if quick else 2):
        with tempfile.TemporaryDirectory() as folder:
            side = Ours(task, folder)
            jobs = dict(
                ours=lambda side=side: ours(side),
                filled=lambda: theirs(Peer(task, fill=True)),
                longest=lambda: theirs(Peer(task, fill=False)),
                again=lambda side=side: ours(side),
            )
            found = {}
            for name, job in jobs.items():
                started = time.perf_counter()
                found[name] = job()
                seconds[name].append(time.perf_counter() - started)
        gap = max(gap, *(_gap(found['ours'], found[name]) for name in ('filled', 'longest', 'again')))
    if gap > GATE:
        raise AssertionError(f'accuracies differ by {gap:.2f} points: nothing to compare')
    scale = f'{classes} classes x 80 templates, {count} pictures, {count * CAPTIONS} captions'
    return [
        _row(f'suite, {scale}', "clip-benchmark's loop, 80 tokens", seconds, ('ours', 'filled'), gap),
        _row(f'suite, {scale}', "clip-benchmark's loop, longest of batch", seconds, ('ours', 'longest'), gap),
        _row('the same suite again', "clip-benchmark's loop, 80 tokens", seconds, ('again', 'filled'), gap),
    ]


def _row(what: str, peer: str, seconds: dict[str, list[float]], names: tuple[str, str], gap: float) -> Row:
    ours, theirs = (sorted(seconds[name])[len(seconds[name]) // 2] for name in names)
    ratios = [theirs / ours for ours, theirs in zip(seconds[names[0]], seconds[names[1]])]
    note = f'largest difference {gap:.2f} points; {len(ratios)} rounds, low and high are the extremes'
    return Row(what, peer, ours, theirs, 's', theirs / ours, min(ratios), max(ratios), 2.5, note)
