"""The classification task: losses, predictions, checks, published parameter counts."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from internvl_mm.models.backbones import InternViT
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.losses import ClassificationLoss
from internvl_mm.models.necks import AttentionPooling, ClipProjector, ClsPatchConcat, ClsToken
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.structures import ImageSample
from internvl_mm.utils.errors import ConfigError, DataError

TINY = dict(
    type=InternViT,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
    image_size=28,
)


def make_task(*, num_classes: int = 3, neck: type = ClsPatchConcat, **backbone: object) -> ImageClassifier:
    torch.manual_seed(0)
    task = ImageClassifier(
        backbone=dict(TINY, **backbone),
        neck=dict(type=neck),
        head=dict(type=LinearClsHead, num_classes=num_classes),
    )
    task.init_weights()
    return task


def samples(*labels: int) -> list[ImageSample]:
    return [
        ImageSample.labelled(label, dataset='toy', index=i, path=f'{i}.png') for i, label in enumerate(labels)
    ]


PIXELS = torch.randn(4, 3, 28, 28, generator=torch.Generator().manual_seed(0))


def test_widths_are_filled_in() -> None:
    task = make_task()
    assert task.neck.out_dim == task.head.in_dim == 64
    assert task.width == 32 and task.num_classes == 3


def test_loss_is_cross_entropy_of_the_head() -> None:
    task = make_task()
    losses = task(PIXELS, samples(0, 1, 2, 0), mode='loss')
    logits = task.head(task.extract(PIXELS))
    target = torch.tensor([0, 1, 2, 0])
    assert_close(losses['loss'], torch.nn.functional.cross_entropy(logits, target))
    assert losses['top1'].item() == pytest.approx(100 * (logits.argmax(1) == target).float().mean().item())


def test_soft_targets_decide_the_loss_and_top1_counts_the_main_class() -> None:
    task = make_task()
    mixed = samples(0, 1, 2, 0)
    with torch.no_grad():
        best = task.head(task.extract(PIXELS)).argmax(1)
    for sample, main in zip(mixed, best):
        sample.gt_score = torch.full((3,), 0.1).index_fill(0, main, 0.8)
    losses = task.loss(PIXELS, mixed)
    logits = task.head(task.extract(PIXELS))
    expected = ClassificationLoss()(logits, torch.stack([sample.gt_score for sample in mixed]))
    assert_close(losses['loss'], expected)
    assert losses['top1'].item() == 100


def test_predict_fills_fp32_logits() -> None:
    task = make_task().eval()
    task.set_precision(torch.bfloat16)
    predicted = task(PIXELS, samples(0, 1, 2, 0), mode='predict')
    assert all(sample.pred_logits.dtype == torch.float32 for sample in predicted)
    assert torch.stack([sample.pred_logits for sample in predicted]).shape == (4, 3)


def test_frozen_backbone_gets_no_gradient_and_does_not_change_mode() -> None:
    task = make_task(frozen='all', drop_path_rate=0.5).train()
    assert_close(task.extract(PIXELS), task.extract(PIXELS), rtol=0, atol=0)
    assert not task.extract(PIXELS).requires_grad
    task.loss(PIXELS, samples(0, 1, 2, 0))['loss'].backward()
    trained = {
        name.split('.')[0] for name, parameter in task.named_parameters() if parameter.grad is not None
    }
    assert trained == {'head'}


def test_a_step_lowers_the_loss_of_every_part() -> None:
    task, batch = make_task(neck=ClsToken), samples(0, 1, 2, 0)
    optimizer = torch.optim.SGD(task.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = task(PIXELS, batch, mode='loss')['loss']
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert task.backbone.embeddings.patch_embedding.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ('neck', 'trainable'),
    [(ClsPatchConcat, 6_413_800), (AttentionPooling, 44_199_400), (ClipProjector, 770_536)],
)
def test_trainable_parameters_equal_the_published_probes(neck: type, trainable: int) -> None:
    with torch.device('meta'):
        task = ImageClassifier(
            backbone=dict(type=InternViT, num_hidden_layers=1, frozen='all'),
            neck=dict(type=neck),
            head=dict(type=LinearClsHead, num_classes=1000),
        )
    assert sum(p.numel() for p in task.parameters() if p.requires_grad) == trainable


@pytest.mark.parametrize('label', [3, -1])
def test_label_out_of_range_names_image_and_range(label: int) -> None:
    with pytest.raises(DataError, match=rf"label {label} of image 1 of 'toy' \(1\.png\).*classes 0 to 2"):
        make_task().loss(PIXELS, samples(0, label, 2, 0))


def test_soft_targets_of_another_width() -> None:
    batch = samples(0, 1, 2, 0)
    for sample in batch:
        sample.gt_score = torch.full((5,), 0.2)
    with pytest.raises(DataError, match='soft targets have 5 classes but the head has num_classes=3'):
        make_task().loss(PIXELS, batch)


def test_class_lists_of_data_and_head_must_agree() -> None:
    task = make_task()
    task.check_data(dict(name='toy', classes=['a', 'b', 'c']))
    task.check_data({})
    with pytest.raises(DataError, match='toy has 2 classes but the head has num_classes=3'):
        task.check_data(dict(name='toy', classes=['a', 'b']))


def test_head_of_another_width_is_refused() -> None:
    with pytest.raises(ConfigError, match='in_dim=7 but ClsToken gives 32'):
        ImageClassifier(
            backbone=dict(TINY),
            neck=dict(type=ClsToken),
            head=dict(type=LinearClsHead, in_dim=7, num_classes=3),
        )
