"""Contrastive losses against explicit formulas over the whole batch, in one process and in two."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor

from internvl_mm.models.losses import InfoNCELoss, SigmoidLoss
from internvl_mm.models.losses.contrastive import IGNORED, cross_entropy_in_chunks, info_nce
from internvl_mm.utils.errors import ConfigError

REPO = Path(__file__).parents[2]
IDS = [0, 0, 1, 2, 1, 3]


def pairs(count: int = 6) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)
    return tuple(torch.randn(count, 5, generator=draws).requires_grad_() for _ in range(2))


def clip_loss(images: Tensor, texts: Tensor, scale: float, smoothing: float = 0.0) -> Tensor:
    """open_clip's loss; with smoothing, which it lacks, the same written out."""
    images, texts = images / images.norm(dim=1, keepdim=True), texts / texts.norm(dim=1, keepdim=True)
    if not smoothing:
        return ClipLoss()(images, texts, scale)
    logits = scale * images @ texts.T
    right = torch.arange(len(logits))
    return (
        F.cross_entropy(logits, right, label_smoothing=smoothing)
        + F.cross_entropy(logits.T, right, label_smoothing=smoothing)
    ) / 2


@pytest.mark.parametrize('chunk', [1, 4, 100])
@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_value_and_gradients_are_clips(chunk: int, smoothing: float) -> None:
    ours, theirs = pairs(), pairs()
    loss = InfoNCELoss(temperature=0.1, chunk=chunk, label_smoothing=smoothing)
    value, expected = loss(*ours), clip_loss(*theirs, 10.0, smoothing)
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_chunks_bound_what_is_held() -> None:
    """The largest tensor saved for the backward pass is a chunk of similarities, not all of them."""
    rows = torch.randn(64, 4, requires_grad=True)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        cross_entropy_in_chunks(rows, torch.randn(64, 4), torch.arange(64), chunk=8)
    assert max(sizes) < 64 * 64 / 2


def test_pairs_of_one_image_share_the_target() -> None:
    images, texts = pairs()
    ids = torch.tensor(IDS)
    value = info_nce(images, texts, torch.tensor(10.0), ids=ids)
    logits = 10 * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    target = torch.stack([(ids == number).float() / (ids == number).sum() for number in ids])
    by_hand = [-(target * scores.log_softmax(dim=1)).sum(dim=1).mean() for scores in (logits, logits.T)]
    torch.testing.assert_close(value, sum(by_hand) / 2)


def test_equal_texts_are_right_when_asked() -> None:
    images, texts = pairs()
    ids = torch.tensor(IDS)
    assert InfoNCELoss(equal_texts='right')(images, texts, ids) == info_nce(
        images, texts, torch.tensor(1 / 0.07), ids=ids
    )
    assert InfoNCELoss()(images, texts, ids) == InfoNCELoss()(images, texts)


def test_rows_that_do_not_count_leave_the_mean() -> None:
    images, texts = pairs()
    counts = torch.tensor([True, False, True, True, False, True])
    value = info_nce(images, texts, torch.tensor(10.0), counts=counts)
    logits = 10 * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    target = torch.arange(6).masked_fill(~counts, IGNORED)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(value, expected)
    assert info_nce(images, texts, torch.tensor(10.0), counts=torch.zeros(6, dtype=torch.bool)) == 0


def test_the_scale_can_be_bounded() -> None:
    images, texts = pairs()
    loss = InfoNCELoss(temperature=1e-3, max_scale=100.0)
    torch.testing.assert_close(loss(images, texts), clip_loss(images, texts, 100.0))


@pytest.mark.parametrize('kind', [InfoNCELoss, SigmoidLoss])
def test_similarities_are_full_precision_in_a_run_of_half(kind: type) -> None:
    loss, (images, texts) = kind(), pairs()
    expected = loss(images, texts)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(loss(images, texts), expected, rtol=1e-6, atol=0)


def test_sigmoid_loss_is_open_clips() -> None:
    images, texts = pairs()
    expected = SigLipLoss()(F.normalize(images, dim=1), F.normalize(texts, dim=1), 10.0, -10.0)
    for chunk in (2, 100):
        torch.testing.assert_close(SigmoidLoss(chunk=chunk)(images, texts), expected)


@pytest.mark.parametrize('setting', [dict(chunk=0), dict(label_smoothing=1.0)])
def test_impossible_settings_are_told(setting: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        InfoNCELoss(**setting)


# two processes

TASKS = ('contrastive', 'retrieval')
LOSSES = dict(
    clip=lambda a, b, ids: InfoNCELoss(chunk=2)(a, b),
    own=lambda a, b, ids: InfoNCELoss(negatives='own')(a, b),
    soft=lambda a, b, ids: info_nce(a, b, torch.tensor(10.0), ids=ids),
    sigmoid=lambda a, b, ids: SigmoidLoss(chunk=2)(a, b),
)


def open_clip_loss(images: Tensor, texts: Tensor, **options: bool) -> Tensor:
    """open_clip's loss over the pairs of all processes, at our initial temperature."""
    who = dict(rank=torch.distributed.get_rank(), world_size=torch.distributed.get_world_size())
    loss = ClipLoss(gather_with_grad=True, **who, **options)
    return loss(F.normalize(images, dim=1), F.normalize(texts, dim=1), 1 / 0.07)


def task_gradients(kind: str, half: slice, wrap: Callable = lambda task: task) -> dict[str, Tensor]:
    """Loss and gradients of a whole task on a part of a batch of six pairs of four images."""
    from internvl_mm.models.tasks import ContrastivePretraining, RetrievalFinetuning
    from internvl_mm.structures import ImageSample
    from tests import cases

    torch.manual_seed(0)
    if kind == 'contrastive':
        task = ContrastivePretraining(**cases.TASK_CASES[ContrastivePretraining])
        task.init_weights()
    else:
        trainable = ('vision', 'llama', 'text_projection', 'queries', 'query_pool', 'image_pool')
        trainable += ('cross_attention', 'matching_head', 'temperature')
        settings = dict(cases.ALIGNMENT, model=dict(cases.ALIGNMENT['model'], trainable=trainable))
        task = RetrievalFinetuning(**settings)
    samples = [
        ImageSample(
            metainfo=dict(
                dataset='x', index=index, image_id=number, caption=f'A {index}.', negative=f'a {index}'
            )
        )
        for index, number in enumerate(IDS)
    ]
    wrapped = wrap(task)  # has to live until the gradients are there
    losses = wrapped(torch.randn(6, 3, 28, 28)[half], samples[half], mode='loss')
    loss = sum(value for name, value in losses.items() if 'loss' in name)
    loss.backward()
    named = {name: parameter.grad for name, parameter in task.named_parameters() if parameter.requires_grad}
    return dict(loss=loss.detach(), **named)


def worker() -> None:
    """What each process does: its half of the pairs, and data parallelism's mean of the gradients."""
    from torch.nn.parallel import DistributedDataParallel

    torch.distributed.init_process_group('gloo')
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    half = slice(rank * 6 // size, (rank + 1) * 6 // size)
    results = {}
    theirs = dict(
        open_clip=lambda a, b, ids: open_clip_loss(a, b),
        open_clip_local=lambda a, b, ids: open_clip_loss(a, b, local_loss=True),
    )
    for name, loss in (LOSSES | theirs).items():
        images, texts = pairs()
        value = loss(images[half], texts[half], torch.tensor(IDS)[half])
        value.backward()
        reduced = [value.detach(), images.grad, texts.grad]
        for tensor in reduced:
            torch.distributed.all_reduce(tensor)
            tensor /= size
        results[name] = [tensor.tolist() for tensor in reduced]
    for kind in TASKS:
        found = task_gradients(kind, half, DistributedDataParallel)
        torch.distributed.all_reduce(found['loss'])
        found['loss'] /= size
        results[kind] = {name: tensor.tolist() for name, tensor in found.items()}
    try:
        InfoNCELoss()(*(part[: 2 + rank] for part in pairs()))
    except ValueError as error:
        results['uneven'] = str(error)
    if rank == 0:
        print(json.dumps(results))  # noqa: T201 (read by the test)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_global_loss_and_its_gradients() -> None:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    started = []
    for rank in range(2):
        who = dict(RANK=rank, WORLD_SIZE=2, MASTER_ADDR='127.0.0.1', MASTER_PORT=port, OMP_NUM_THREADS=1)
        command = [
            sys.executable,
            '-c',
            'from tests.test_models.test_contrastive_loss import worker; worker()',
        ]
        env = dict(os.environ, **{name: str(value) for name, value in who.items()})
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=REPO, env=env, stdout=pipe, stderr=pipe, text=True))
    outputs = [process.communicate(timeout=120) for process in started]
    assert all(process.returncode == 0 for process in started), outputs[0][1][-2000:]
    found = json.loads(outputs[0][0].splitlines()[-1])
    assert 'between 2 and 3 pairs' in found.pop('uneven')
    for name in ('open_clip', 'open_clip_local'):
        for ours, expected in zip(found['clip'], found[name], strict=True):
            torch.testing.assert_close(torch.tensor(ours), torch.tensor(expected), atol=1e-6, rtol=1e-5)
    for kind in TASKS:
        for name, expected in task_gradients(kind, slice(None)).items():
            torch.testing.assert_close(torch.tensor(found[kind][name]), expected, atol=1e-5, rtol=1e-4)
    for name, loss in LOSSES.items():
        images, texts = pairs()
        if name == 'own':  # each half by itself
            value = (loss(images[:3], texts[:3], None) + loss(images[3:], texts[3:], None)) / 2
        else:
            value = loss(images, texts, torch.tensor(IDS))
        value.backward()
        for ours, expected in zip(found[name], (value.detach(), images.grad, texts.grad), strict=True):
            torch.testing.assert_close(torch.tensor(ours), expected, atol=1e-5, rtol=1e-5)
