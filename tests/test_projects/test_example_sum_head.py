"""The segmentation head of the example room: definition, slot, config, budget, and the page that shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models import CrossEntropyLoss
from mmseg.structures import SegDataSample
from torch import nn

from internvl_mm.engine.config import check_config, load_config
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.necks import MultiScaleNeck
from internvl_mm.models.tasks.segment import Segmenter
from internvl_mm.registry import MODELS
from projects.example.sum_head import SumHead

REPO = Path(__file__).parents[2]
SIZES = dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=24, image_size=28)


@torch.no_grad()
def test_maps_are_reduced_resampled_and_added() -> None:
    head = SumHead(
        [4, 6], channels=5, num_classes=3, in_index=[0, 2], loss_decode=dict(type=CrossEntropyLoss)
    ).eval()
    fine, unused, coarse = torch.randn(1, 4, 4, 4), torch.randn(1, 9, 3, 3), torch.randn(1, 6, 2, 2)
    weights = [layer.weight[..., 0, 0] for layer in head.reduce]
    parts = [
        torch.einsum('bchw,dc->bdhw', map_, weight) + layer.bias[:, None, None]
        for map_, weight, layer in zip((fine, coarse), weights, head.reduce, strict=True)
    ]
    total = parts[0] + nn.Upsample(scale_factor=2, mode='bilinear')(parts[1])
    torch.testing.assert_close(head((fine, unused, coarse)), head.conv_seg(F.relu(total)))


def test_fills_the_slot_of_a_segmentation_head_from_outside() -> None:
    assert MODELS.get('SumHead') is SumHead
    task = Segmenter(
        backbone=InternViT(**SIZES, out_indices=(0, 1, 2, 3), frozen='all'),
        neck=dict(type=MultiScaleNeck),
        decode_head=dict(type=SumHead, in_index=[0, 1, 2, 3], channels=8, num_classes=3),
    )
    task.init_weights()
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(3, (1, 28, 28))))
    sum(task.loss(torch.randn(1, 3, 28, 28), [sample]).values()).backward()
    assert [layer.in_channels for layer in task.decode_head.reduce] == [16] * 4
    assert all(parameter.grad is not None for parameter in task.decode_head.parameters())


def test_the_page_shows_this_head() -> None:
    source = (REPO / 'projects' / 'example' / 'sum_head.py').read_text(encoding='utf-8')
    page = (REPO / 'docs' / 'add_a_head.md').read_text(encoding='utf-8')
    code = source[source.index('from __future__') :]
    assert code in page, 'docs/add_a_head.md shows projects/example/sum_head.py word for word'


def test_config_is_the_parent_with_another_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    guest = load_config('projects/example/seg_sum_intern_vit_tiny_digits.py')
    parent = load_config('configs/quickstart/seg_upernet_full_intern_vit_tiny_digits.py')
    assert guest.model.decode_head.type is SumHead
    assert guest.model.decode_head.num_classes == parent.model.decode_head.num_classes
    guest.model.decode_head = parent.model.decode_head
    assert guest.to_dict() == parent.to_dict()
    check_config(guest, purpose='read')


def test_head_and_config_stay_within_their_budget() -> None:
    """Adding a head costs at most 120 lines, everything counted but its tests."""
    files = ('sum_head.py', 'seg_sum_intern_vit_tiny_digits.py')
    lines = [
        len((REPO / 'projects' / 'example' / file).read_text(encoding='utf-8').splitlines()) for file in files
    ]
    assert sum(lines) <= 120
