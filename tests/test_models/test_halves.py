"""Two halves of a training batch have, weighted, the loss and the gradient of the whole."""

from __future__ import annotations

import pytest
import torch

from internvl_mm.models.backbones import InternViT
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import ClsPatchConcat
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.structures import ImageSample
from tests.test_models.tiny_tuning import batch_of, conversation, tiny_task


def gradients(task, loss) -> dict[str, torch.Tensor]:
    task.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}


def assert_same(task, inputs, samples) -> None:
    whole = task.loss(inputs, samples)['loss']
    expected = gradients(task, whole)
    halves = task.halves(inputs, samples)
    assert [len(part['data_samples']) for _, part in halves] == [
        len(samples) // 2,
        len(samples) - len(samples) // 2,
    ]
    assert sum(share for share, _ in halves) == pytest.approx(1)
    found = gradients(task, sum(share * task.loss(**part)['loss'] for share, part in halves))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize('reduction', ['token', 'square'])
def test_conversations(packed: bool, reduction: str) -> None:
    task = tiny_task(reduction=reduction)
    if packed:
        task.chat.language_model.set_attn_implementation('packed')
    # Other lengths and numbers of tiles, so that a share is no share of samples.
    samples = [conversation(task, n, tiles=n % 3, length=7 + 4 * n) for n in range(3)]
    assert_same(task, batch_of(*samples, packed=packed), samples)
    assert task.halves(batch_of(samples[0]), samples[:1]) is None


def test_images() -> None:
    def task(norm: str | None) -> ImageClassifier:
        sizes = dict(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=28
        )
        parts = dict(backbone=InternViT(**sizes), neck=dict(type=ClsPatchConcat))
        built = ImageClassifier(**parts, head=dict(type=LinearClsHead, num_classes=4, norm=norm))
        built.init_weights()
        return built

    samples = [ImageSample.labelled(n % 4, dataset='noise', index=n) for n in range(5)]
    pixels = torch.randn(5, 3, 28, 28)
    assert_same(task('layer'), pixels, samples)
    assert task('layer').halves(pixels[:1], samples[:1]) is None
    assert task('batch').halves(pixels, samples) is None
    assert task('batch').eval().halves(pixels, samples) is not None
