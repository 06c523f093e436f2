"""Every registered part meets the contract of its slot. A new part needs a tiny case in ``cases.py``, nothing here."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace

import pytest
import torch
from mmengine.registry import DefaultScope, Registry
from mmengine.structures import InstanceData, PixelData
from torch import Tensor

import internvl_mm
from internvl_mm.evaluation.metrics import SampleMetric
from internvl_mm.models.backbones import BaseBackbone, BlockBackbone
from internvl_mm.models.necks import BaseNeck, PoolingNeck, PyramidNeck
from internvl_mm.models.tasks import BaseTask
from internvl_mm.models.tasks.preference import PreferenceTuning
from internvl_mm.registry import METRICS, MODELS
from internvl_mm.structures import ImageSample, QuestionSample, VisionFeatures
from tests import cases
from tests.test_models.tiny_tuning import batch_of, conversation

for found in pkgutil.walk_packages(internvl_mm.__path__, 'internvl_mm.'):
    if found.name.startswith(('internvl_mm.models', 'internvl_mm.evaluation')):
        importlib.import_module(found.name)

# room -> where its parts register, and their tiny cases
SLOTS: dict[str, tuple[Registry, dict[type, dict]]] = {
    'models.backbones': (MODELS, cases.BACKBONE_CASES),
    'models.necks': (MODELS, cases.NECK_CASES),
    'models.heads': (MODELS, cases.HEAD_CASES | cases.DENSE_HEAD_CASES),
    'models.losses': (MODELS, {**cases.LOSS_CASES, **cases.CONTRASTIVE_CASES}),
    'models.tasks': (MODELS, cases.TASK_CASES | cases.DENSE_TASK_CASES | cases.CHAT_TASK_CASES),
    'evaluation.metrics': (METRICS, cases.METRIC_CASES),
}


def each(table: dict[type, dict]):
    """One test per part of a slot, named after the part."""
    return pytest.mark.parametrize(
        'part', [pytest.param(case, id=case[0].__name__) for case in table.items()]
    )


def add_object(sample: ImageSample) -> None:
    """One box with a mask, and the same box as a prediction, as detectors and their metrics see it."""
    size = (28, 28)
    sample.set_metainfo(dict(img_id=sample.index, img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    sample.set_metainfo(dict(batch_input_shape=size, pad_shape=size))
    boxes, labels = torch.tensor([[2.0, 3.0, 20.0, 24.0]]), sample.gt_label
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
    found = dict(
        bboxes=boxes, labels=labels, scores=torch.rand(1), masks=torch.ones(1, *size, dtype=torch.bool)
    )
    sample.pred_instances = InstanceData(**found)


def samples(count: int = 4) -> list[ImageSample]:
    labelled = [
        ImageSample.labelled(index % cases.CLASSES, dataset='toy', index=index) for index in range(count)
    ]
    for sample in labelled:
        sample.gt_labels = sample.gt_label
        sample.pred_logits = torch.randn(cases.CLASSES)
        number = sample.index
        sample.set_metainfo(dict(caption=f'a {number}', image_id=number, negative=f'a {number + 1}'))
        sample.pred_image, sample.pred_text = torch.randn(2, 8)
        sample.set_metainfo(dict(answers=['three'], kind='count'))
        sample.pred_answer = ('three', 'two')[number % 2]
        sample.gt_sem_seg, sample.pred_sem_seg = (
            PixelData(data=torch.randint(cases.CLASSES, (1, 28, 28))) for _ in range(2)
        )
        add_object(sample)
    return labelled


@pytest.mark.parametrize('room', SLOTS)
def test_every_registered_part_has_a_case(room: str) -> None:
    registry, table = SLOTS[room]
    registered = {
        part for part in registry.module_dict.values() if part.__module__.startswith(f'internvl_mm.{room}')
    }
    assert registered, f'nothing is registered in {room}'
    assert registered == set(table), (
        'give each part of the slot, and nothing else, a tiny case in tests/cases.py'
    )


@pytest.mark.parametrize(
    ('others', 'base'),
    [
        (cases.BACKBONE_CASES, BaseBackbone),
        (cases.NECK_CASES, BaseNeck),
        (cases.TASK_CASES | cases.DENSE_TASK_CASES | cases.CHAT_TASK_CASES, BaseTask),
        (cases.METRIC_CASES, SampleMetric),
    ],
)
def test_parts_derive_from_the_base_of_their_slot(others: dict[type, dict], base: type) -> None:
    assert all(issubclass(part, base) for part in others)


# backbones


def random_image(backbone: BaseBackbone, *, rows: int, columns: int) -> Tensor:
    """Two images of so many cells of the coarsest map."""
    side = round(max(backbone.strides))
    return torch.randn(2, 3, rows * side, columns * side)


@each(cases.BACKBONE_CASES)
def test_backbone_gives_features_of_an_image_that_is_not_square(part: tuple[type, dict]) -> None:
    backbone = part[0](**part[1])
    backbone.init_weights()
    pixels = random_image(backbone, rows=2, columns=4)
    features = backbone(pixels)
    height, width = features.grid
    assert isinstance(features, VisionFeatures)
    assert features.tokens.shape == (2, features.has_class_token + height * width, backbone.width)
    if features.has_class_token:
        assert features.pooled.shape == (2, backbone.width)
    assert features.patches.shape == (2, height * width, backbone.width)
    assert len(features.maps) == len(features.strides) == len(backbone.strides) > 0
    for tap, stride in zip(features.maps, backbone.strides, strict=True):
        assert tap.shape == (2, backbone.width, pixels.shape[2] / stride, pixels.shape[3] / stride)
        assert tap.dtype == torch.float32
    assert torch.isfinite(features.tokens).all()


@each(cases.BACKBONE_CASES)
def test_backbone_layer_ids_cover_every_parameter_and_order_freezing(part: tuple[type, dict]) -> None:
    backbone = part[0](**part[1])
    ids = [backbone.layer_id(name) for name, _ in backbone.named_parameters()]
    assert set(range(backbone.num_layers + 1)) <= set(ids) <= set(range(backbone.num_layers + 2))
    for up_to in (None, 0, 1, backbone.num_layers, 'all'):
        backbone.freeze(up_to)
        for layer, parameter in zip(ids, backbone.parameters(), strict=True):
            assert parameter.requires_grad == (up_to != 'all' and layer >= (up_to or 0))
        assert backbone.train().training == (up_to != 'all')


@each(cases.BACKBONE_CASES)
def test_backbone_trains_every_parameter(part: tuple[type, dict]) -> None:
    backbone = part[0](**part[1])
    backbone.init_weights()
    with torch.no_grad():
        for parameter in backbone.parameters():
            # weights that start at 0 keep gradients from others
            parameter += 0.02 * torch.randn_like(parameter)
    features = backbone(random_image(backbone, rows=2, columns=2))
    # Random directions: the squares of a normalised map add up to a constant.
    sum((out * torch.randn_like(out)).sum() for out in (features.tokens, *features.maps)).backward()
    without = [
        name
        for name, parameter in backbone.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


@each(cases.BACKBONE_CASES)
def test_backbone_state_comes_back_strictly(part: tuple[type, dict]) -> None:
    first, second = (part[0](**part[1]).eval() for _ in range(2))
    first.init_weights()
    second.load_state_dict(first.state_dict(), strict=True)
    pixels = random_image(first, rows=2, columns=2)
    a, b = first(pixels), second(pixels)
    for one, same in zip((a.tokens, *a.maps), (b.tokens, *b.maps), strict=True):
        assert torch.equal(one, same)


@each(cases.BACKBONE_CASES)
def test_backbone_resizes_its_positions(part: tuple[type, dict]) -> None:
    backbone = part[0](**part[1]).eval()
    backbone.init_weights()
    pixels = random_image(backbone, rows=4, columns=4)
    before = backbone(pixels).tokens
    backbone.resize_positions(pixels.shape[-1])
    torch.testing.assert_close(backbone(pixels).tokens, before)


@each({part: case for part, case in cases.BACKBONE_CASES.items() if issubclass(part, BlockBackbone)})
def test_blocks_run_in_groups_as_they_run_together(part: tuple[type, dict]) -> None:
    backbone = part[0](**part[1]).eval()
    backbone.init_weights()
    pixels = random_image(backbone, rows=2, columns=4)
    assert backbone.strides == (float(backbone.patch_size),) * len(backbone.strides)
    tokens, grid = backbone.embed(pixels)
    assert tokens.shape[1] == backbone.use_class_token + grid[0] * grid[1]
    for index in range(backbone.num_layers):
        tokens = backbone.run_blocks(tokens, grid, range(index, index + 1))
    torch.testing.assert_close(tokens, backbone(pixels).tokens)
    backbone.freeze('all')
    tokens.detach_().requires_grad_()
    # an adapter's gradients pass through frozen blocks
    assert backbone.run_blocks(tokens, grid, range(backbone.num_layers)).requires_grad


# necks, heads, losses


def test_every_neck_pools_or_gives_a_pyramid() -> None:
    assert all(issubclass(part, (PoolingNeck, PyramidNeck)) for part in cases.NECK_CASES)


@each({part: case for part, case in cases.NECK_CASES.items() if issubclass(part, PoolingNeck)})
def test_neck_gives_one_vector_per_image_of_the_width_it_says(part: tuple[type, dict]) -> None:
    neck = part[0](cases.WIDTH, **part[1])
    features = VisionFeatures(tokens=torch.randn(2, 7, cases.WIDTH), grid=(2, 3))
    pooled = neck(features)
    assert pooled.shape == (2, neck.out_dim)
    # images of a batch do not mix
    alone = neck(VisionFeatures(tokens=features.tokens[:1], grid=(2, 3)))
    torch.testing.assert_close(pooled[:1], alone)


def four_taps(images: Tensor) -> VisionFeatures:
    """Features as a patch-14 backbone gives them: random tokens and the ``images`` [B, 4, D, h, w] as its maps."""
    maps, grid = images.unbind(1), (images.shape[3], images.shape[4])
    tokens = torch.randn(len(images), 1 + grid[0] * grid[1], images.shape[2])
    return VisionFeatures(tokens=tokens, grid=grid, maps=maps, strides=(14.0,) * 4)


@each({part: case for part, case in cases.NECK_CASES.items() if issubclass(part, PyramidNeck)})
def test_neck_gives_maps_of_the_strides_it_says(part: tuple[type, dict]) -> None:
    neck = part[0](cases.WIDTH, **part[1])
    neck.init_weights()
    images = torch.randn(2, 4, cases.WIDTH, 4, 8, requires_grad=True)
    maps = neck(four_taps(images))
    assert isinstance(maps, tuple) and len(maps) == len(neck.strides) > 1
    for map_, stride in zip(maps, neck.strides, strict=True):
        # below one cell a level keeps one
        assert map_.shape == (2, neck.out_channels, max(1, 4 * 14 / stride), max(1, 8 * 14 / stride))
        assert map_.dtype == torch.float32
    assert list(neck.strides) == sorted(neck.strides)
    alone = neck(four_taps(images[:1]))
    torch.testing.assert_close(maps[0][:1], alone[0])
    sum(map_.square().sum() for map_ in maps).backward()
    assert images.grad is not None
    assert all(parameter.grad is not None for parameter in neck.parameters())


@each(cases.HEAD_CASES)
def test_head_gives_logits_of_its_classes(part: tuple[type, dict]) -> None:
    head = part[0](in_dim=cases.WIDTH, **part[1])
    logits = head(torch.randn(4, cases.WIDTH))
    assert logits.shape == (4, head.num_classes)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@each(cases.LOSS_CASES)
def test_loss_is_a_number_smaller_for_right_logits(part: tuple[type, dict]) -> None:
    loss, target = part[0](**part[1]), torch.tensor([0, 1, 2])
    right = torch.eye(3) * 5
    assert loss(right, target).shape == ()
    assert loss(right, target) < loss(-right, target)


@each(cases.CONTRASTIVE_CASES)
def test_contrastive_loss_is_smaller_for_pairs_that_agree_and_trains_its_temperature(
    part: tuple[type, dict],
) -> None:
    loss, images = part[0](**part[1]), torch.eye(3)
    assert loss(images, images).shape == ()
    assert loss(images, images) < loss(images, images.roll(1, 0))
    loss(images, images).backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())


@each(cases.DENSE_HEAD_CASES)
def test_dense_head_gives_a_finite_loss_also_without_any_label(part: tuple[type, dict]) -> None:
    several = not isinstance(part[1].get('in_index'), int)
    with DefaultScope.overwrite_default_scope('mmseg'):
        head = part[0](in_channels=[cases.WIDTH] * 4 if several else cases.WIDTH, **part[1])
    maps = tuple(torch.randn(2, cases.WIDTH, side, side, requires_grad=True) for side in (16, 8, 4, 2))
    labelled = samples(2)
    logits = head.predict(maps, [dict(img_shape=torch.Size((28, 28)))] * 2, None)
    assert logits.shape == (2, cases.CLASSES, 28, 28)
    for ignored in (False, True):
        if ignored:
            labelled[1].gt_sem_seg.data.fill_(255)
        losses = head.loss(maps, labelled, None)
        total = sum(value.sum() for name, value in losses.items() if 'loss' in name)
        assert torch.isfinite(total)
    total.backward()
    assert maps[0].grad.isfinite().all()


# tasks and metrics


@each(cases.DENSE_TASK_CASES)
def test_dense_task_runs_in_its_three_modes(part: tuple[type, dict]) -> None:
    task = part[0](**part[1])
    task.init_weights()
    pixels, labelled = torch.randn(4, 3, 28, 28), samples()
    total, _ = task.parse_losses(task(pixels, labelled, mode='loss'))
    total.backward()
    assert any(parameter.grad is not None for parameter in task.parameters())
    assert len(task.eval()(pixels, labelled, mode='predict')) == 4
    assert task(pixels, mode='tensor')[0].shape[0] == 4
    assert task.width == cases.WIDTH


@each(cases.TASK_CASES)
def test_task_runs_in_its_three_modes(part: tuple[type, dict]) -> None:
    task = part[0](**part[1])
    task.init_weights()
    pixels, labelled = torch.randn(4, 3, 28, 28), samples()
    losses = task(pixels, labelled, mode='loss')
    total, _ = task.parse_losses(losses)
    total.backward()
    assert any(parameter.grad is not None for parameter in task.parameters())
    predicted = task.eval()(pixels, labelled, mode='predict')
    assert all(sample.pred_logits.dtype == torch.float32 for sample in predicted)
    assert task(pixels, mode='tensor').shape[0] == 4
    assert task.width == cases.WIDTH
    with pytest.raises(ValueError, match="mode='train' is unknown: use 'loss', 'predict' or 'tensor'"):
        task(pixels, labelled, mode='train')


@each(cases.CHAT_TASK_CASES)
def test_chat_task_runs_in_its_three_modes(part: tuple[type, dict]) -> None:
    task = part[0](**part[1])
    task.init_weights()
    talks = [conversation(task, 0), conversation(task, 1, tiles=2)]
    batch, waiting = batch_of(*talks), [QuestionSample(), QuestionSample()]
    # Preferences: the same conversations twice, with their tiles once.
    twice = [*talks, *(replace(talk, tiles=talk.tiles[:0]) for talk in talks)]
    rows = batch_of(*twice) if isinstance(task, PreferenceTuning) else batch
    total, _ = task.parse_losses(task(rows, talks, mode='loss'))
    total.backward()
    assert any(parameter.grad is not None for parameter in task.parameters())
    assert all(isinstance(s.pred_answer, str) for s in task.eval()(batch, waiting, mode='predict'))
    assert task(batch, mode='tensor').shape == (*batch.input_ids.shape, task.width)


@each(cases.METRIC_CASES)
def test_metric_counts_every_sample_once_in_any_order(part: tuple[type, dict]) -> None:
    predicted = [sample.to_dict() for sample in samples(6)]
    for number, sample in enumerate(predicted):
        # Only here: a task would describe samples with references instead of embedding them.
        sample.update(references=[f'a {number}', 'a 1'], language='en', pred_caption=f'a {number % 2}')

    def evaluate(batches: list[list[dict]]) -> dict[str, float]:
        metric = part[0](**part[1])
        for batch in batches:
            metric.process(None, batch)
        return metric.evaluate(len(predicted))

    whole = evaluate([predicted])
    assert whole['slot/n'] == 6
    assert all(name.startswith('slot/') for name in whole)
    repeated = evaluate([predicted[3:], predicted[:3], predicted[:2]])
    assert repeated == pytest.approx(whole)
