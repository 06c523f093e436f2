"""The segmentation configs are the published recipes, number by number."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import LinearLR, PolyLR
from mmseg.datasets import ADE20KDataset, COCOStuffDataset

from internvl_mm.engine.config import config_root, load_config
from internvl_mm.models.inference import SlideInference
from internvl_mm.registry import MODELS, PARAM_SCHEDULERS

FOLDER = config_root() / 'segmentation'
ROWS = {  # backbone: blocks used, taps of UperNet, tap of the linear head
    '6b_224px': (48, (11, 23, 35, 47), 44),
    '6b_448px_v1_0': (45, (11, 22, 33, 44), 44),
    '6b_448px_v1_2': (45, (11, 22, 33, 44), 44),
    '6b_448px_v1_5': (45, (11, 22, 33, 44), 44),
    '6b_448px_v2_5': (45, (11, 22, 33, 44), 44),
    '300m_448px_v2_5': (24, (5, 11, 17, 23), 23),
}
SETS = {'ade20k': (ADE20KDataset, 150), 'coco_stuff': (COCOStuffDataset, 171)}
FEW_SHOT = {16: (5000, 100), 8: (10000, 200), 4: (20000, 400), 2: (40000, 800), 1: (80000, 1500)}


def load(name: str) -> Config:
    return load_config(str(FOLDER / f'{name}.py'))


def types(pipeline: list[dict]) -> list[str]:
    return [step['type'].__name__ for step in pipeline]


@pytest.mark.parametrize('dataset', SETS)
@pytest.mark.parametrize('row', ROWS)
@pytest.mark.parametrize('family', ['linear', 'upernet_frozen', 'upernet_full'])
def test_families_are_those_of_the_table(family: str, row: str, dataset: str) -> None:
    cfg, (blocks, taps, last), (kind, classes) = (
        load(f'{family}_intern_vit_{row}_{dataset}_504'),
        ROWS[row],
        SETS[dataset],
    )
    backbone, head, small = cfg.model.backbone, cfg.model.decode_head, row.startswith('300m')
    assert (backbone.num_hidden_layers, backbone.image_size) == (blocks, 504)
    assert backbone.get('pretrained_depth') == (48 if row == '6b_448px_v1_0' else None)
    assert head.num_classes == classes and len(kind.METAINFO['classes']) == classes
    assert cfg.train_dataloader.dataset.dataset.type is kind
    full, linear = family == 'upernet_full', family == 'linear'
    assert tuple(backbone.out_indices) == ((last,) if linear else taps)
    assert backbone.get('frozen') == (None if full else 'all')
    assert backbone.get('drop_path_rate', 0) == ((0.2 if small else 0.4) if full else 0)
    assert cfg.optim_wrapper.optimizer.weight_decay == (0 if linear else 0.05)
    assert cfg.optim_wrapper.paramwise_cfg.decay_rate == ((0.9 if small else 0.95) if full else 1.0)
    if not linear:
        assert cfg.model.auxiliary_head.in_index == (2 if full else 1)
        assert cfg.model.auxiliary_head.num_classes == classes
        assert (head.channels, tuple(head.pool_scales)) == (1536, (1, 2, 3, 6))
    assert 'clip_grad' not in cfg.optim_wrapper
    assert (cfg.optim_wrapper.optimizer.lr, cfg.train_dataloader.batch_size * 8) == (4e-5, 16)
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (80_000, 1_000)
    assert cfg.model.inference == dict(type=SlideInference, crop_size=504, stride=322)


def test_pictures_are_read_as_published() -> None:
    cfg = load('linear_intern_vit_6b_224px_ade20k_504')
    train = cfg.train_dataloader.dataset.dataset.pipeline
    assert types(train) == [
        'LoadImage',
        'LoadSegMap',
        'RandomResize',
        'RandomCrop',
        'RandomFlip',
        'PhotoMetricDistortion',
        'PackSegInputs',
    ]
    assert (tuple(train[2].scale), tuple(train[2].ratio_range)) == ((2016, 504), (0.5, 2.0))
    assert (tuple(train[3].crop_size), train[3].cat_max_ratio) == ((504, 504), 0.75)
    test = cfg.benchmarks.ade20k.dataloader.dataset.dataset.pipeline
    # The label map comes after resizing and keeps its size.
    assert types(test) == ['LoadImage', 'Resize', 'ResizeToMultiple', 'LoadSegMap', 'PackSegInputs']
    assert min(test[1].scale) == 504 and test[2].size_divisor == 14
    pixels = cfg.model.data_preprocessor
    assert (pixels.mean, pixels.std) == ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    assert (pixels.bgr_to_rgb, pixels.pad_val, pixels.seg_pad_val, tuple(pixels.size)) == (
        True,
        0,
        255,
        (504, 504),
    )


@pytest.mark.parametrize('part', FEW_SHOT)
def test_few_shot_reads_the_last_block_and_keeps_its_subset(part: int) -> None:
    cfg, (iters, warmup) = load(f'few_shot_1of{part}_intern_vit_6b_224px_ade20k_504'), FEW_SHOT[part]
    assert tuple(cfg.model.backbone.out_indices) == (47,), 'linear probing reads block 44'
    assert (cfg.model.backbone.drop_path_rate, cfg.model.backbone.get('frozen')) == (0.4, None)
    assert cfg.train_dataloader.dataset.part == part
    assert cfg.train_dataloader.dataset.subset_file == f'data/ade/subsets/1of{part}.json'
    assert [rule['end'] for rule in cfg.param_scheduler] == [warmup + 1, iters + 1]
    assert cfg.train_cfg.max_iters == iters
    assert (cfg.optim_wrapper.optimizer.weight_decay, cfg.optim_wrapper.paramwise_cfg.decay_rate) == (
        0.05,
        0.95,
    )
    longest = max(cfg.benchmarks.ade20k.dataloader.dataset.dataset.pipeline[1].scale)
    assert (longest == 2016) == (part > 1)


def test_the_schedule_is_the_published_formula() -> None:
    rules = load('linear_intern_vit_6b_224px_ade20k_504').param_scheduler
    assert [rule['type'] for rule in rules] == [LinearLR, PolyLR]
    steps = (0, 1, 100, 1499, 1500, 1501, 40_000, 79_999)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=4e-5)
    built = [PARAM_SCHEDULERS.build(dict(rule, optimizer=optimizer)) for rule in rules]
    for step in range(80_000):
        if step in steps:
            poly, warm = 4e-5 * (1 - step / 80_000), 1 - (1 - min(step / 1500, 1)) * (1 - 1e-6)
            assert optimizer.param_groups[0]['lr'] == pytest.approx(poly * warm, rel=1e-6), step
        optimizer.step()
        for rule in built:
            rule.step()


def test_the_adapter_config_is_the_published_one() -> None:
    cfg = load('upernet_vit_adapter_6b_ade20k_512')
    with torch.device('meta'):
        task = MODELS.build(cfg.model)
    trainable = sum(each.numel() for each in task.backbone.parameters() if each.requires_grad)
    assert trainable == 143_796_184
    assert cfg.model.auxiliary_head.in_index == 2
    assert (cfg.model.inference.crop_size, cfg.model.inference.stride) == (512, 341)
    train = cfg.train_dataloader.dataset.dataset.pipeline
    assert (tuple(train[2].scale), tuple(train[3].crop_size)) == ((2048, 512), (512, 512))
    test = cfg.benchmarks.ade20k.dataloader.dataset.dataset.pipeline
    assert types(test) == ['LoadImage', 'Resize', 'LoadSegMap', 'PackSegInputs'], 'no rounding'
    assert cfg.optim_wrapper.paramwise_cfg.decay_rate == 0.95


def test_published_numbers_of_parameters() -> None:
    with torch.device('meta'):
        task = MODELS.build(load('upernet_frozen_intern_vit_6b_224px_ade20k_504').model)
    sizes = {
        name: sum(each.numel() for each in part.parameters()) / 1e6 for name, part in task.named_children()
    }
    assert [round(sizes[name], 1) for name in ('neck', 'decode_head', 'auxiliary_head')] == [
        122.9,
        312.5,
        44.5,
    ]
    assert all(each.requires_grad for each in task.neck.parameters()), 'trains beside a frozen backbone'


@pytest.mark.parametrize(
    ('size', 'rate', 'decay', 'width', 'drop', 'mean'),
    [
        ('tiny', 12e-5, 0.01, 192, 0.1, 123.675),
        ('small', 6e-5, 0.01, 384, 0.2, 123.675),
        ('base', 6e-5, 0.01, 768, 0.3, 123.675),
        ('large', 2e-5, 0.05, 1024, 0.4, 127.5),
    ],
)
def test_the_original_adapters_have_their_published_recipe(
    size: str, rate: float, decay: float, width: int, drop: float, mean: float
) -> None:
    cfg = load(f'upernet_vit_adapter_{size}_ade20k_512')
    adapter = cfg.model.backbone
    vit = adapter.backbone
    assert (vit.hidden_size, vit.drop_path_rate, adapter.drop_path_rate) == (width, drop, drop)
    assert vit.get('window_size') is None and vit.get('frozen') is None
    assert (adapter.vit_features, adapter.norm, adapter.eps) == ('groups', 'batch', 1e-6)
    head, auxiliary = cfg.model.decode_head, cfg.model.auxiliary_head
    assert (head.channels, auxiliary.channels, auxiliary.in_index) == (512, 256, 2)
    assert (cfg.model.data_preprocessor.mean[0], cfg.model.inference.stride) == (mean, 341)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (rate, decay)
    assert cfg.optim_wrapper.paramwise_cfg.decay_rate == 0.95
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (160_000, 16_000)
    assert [rule['end'] for rule in cfg.param_scheduler] == [1501, 160_001]
    test = cfg.benchmarks.ade20k.dataloader.dataset.dataset.pipeline
    assert (tuple(test[1].scale), test[2].size_divisor) == ((2048, 512), 32)
