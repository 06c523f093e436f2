"""The example guest room: its head fills the slot from outside, and its config differs from its parent by that head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from internvl_mm.engine.config import check_config, load_config
from internvl_mm.models.necks import ClsPatchConcat
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.registry import MODELS
from internvl_mm.structures import ImageSample
from projects.example.cosine_head import CosineHead
from tests.test_models.test_classify import TINY

REPO = Path(__file__).parents[2]


def test_logits_are_scaled_cosines() -> None:
    head = CosineHead(8, 3, scale=5)
    features = torch.randn(4, 8)
    expected = 5 * torch.from_numpy(cosine_similarity(features.numpy(), head.weight.detach().numpy()))
    torch.testing.assert_close(head(features), expected)
    torch.testing.assert_close(head(1000 * features), expected)  # directions alone


def test_fills_the_slot_of_a_head_from_outside() -> None:
    assert MODELS.get('CosineHead') is CosineHead
    task = ImageClassifier(
        backbone=TINY, neck=dict(type=ClsPatchConcat), head=dict(type=CosineHead, num_classes=3)
    )
    task.init_weights()
    samples = [ImageSample.labelled(label, dataset='toy', index=label) for label in (0, 2)]
    losses = task(torch.randn(2, 3, 28, 28), samples, mode='loss')
    losses['loss'].backward()
    assert task.head.in_dim == 64 and task.head.weight.grad.abs().sum() > 0


def test_config_is_the_parent_with_another_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    guest = load_config('projects/example/finetune_intern_vit_tiny_digits_cosine.py')
    parent = load_config('configs/quickstart/finetune_intern_vit_tiny_digits.py')
    assert guest.model.head == dict(type=CosineHead, num_classes=parent.model.head.num_classes)
    guest.model.head = parent.model.head
    assert guest.to_dict() == parent.to_dict()
    check_config(guest)
