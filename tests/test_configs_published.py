"""The probing configs are the published recipe, number by number."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config

from internvl_mm.data.datasets import ImageFolderDataset, ImageListDataset, ImageNetReaLDataset
from internvl_mm.engine.config import config_root, load_config
from internvl_mm.evaluation.metrics import Accuracy, ReaLAccuracy
from internvl_mm.preprocess import CenterCrop, RandomFlip, RandomResizedCrop, ResizeShortSide

FOLDER = config_root() / 'classification'
ROWS = {  # row of the published tables: image size, blocks used, blocks in the file when it has more
    '6b_224px_in1k_224': (224, 48, None),
    '6b_224px_in1k_224to448': (448, 48, None),
    '6b_448px_v1_0_in1k_448': (448, 45, 48),
    '6b_448px_v1_2_in1k_448': (448, 45, None),
    '6b_448px_v1_5_in1k_448': (448, 45, None),
    '6b_448px_v2_5_in1k_448': (448, 45, None),
    '300m_448px_distill_in1k_448': (448, 24, None),
    '300m_448px_in1k_448': (448, 24, None),
    '300m_448px_v2_5_in1k_448': (448, 24, None),
}
PROBES = [f'{kind}_intern_vit_{row}' for kind in ('linear', 'attn_pool') for row in ROWS]
SETS = {  # data set class, metric, decoder, subset of the classes
    'in1k': (ImageListDataset, Accuracy, 'cv2', None),
    'real': (ImageNetReaLDataset, ReaLAccuracy, 'cv2', None),
    'v2': (ImageFolderDataset, Accuracy, 'pil', None),
    'a': (ImageFolderDataset, Accuracy, 'pil', 'imagenet_a'),
    'r': (ImageFolderDataset, Accuracy, 'pil', 'imagenet_r'),
    'sketch': (ImageFolderDataset, Accuracy, 'pil', None),
}


def load(name: str) -> Config:
    return load_config(str(FOLDER / f'{name}.py'))


def steps(transform: list[dict]) -> list[tuple]:
    return [(step['type'], step.get('size')) for step in transform]


def test_every_row_of_the_tables_has_its_configs() -> None:
    names = {file.stem for file in FOLDER.glob('*.py')}
    assert {
        f'{kind}_intern_vit_{row}' for kind in ('linear', 'attn_pool', 'knn', 'finetune') for row in ROWS
    } <= names


@pytest.mark.parametrize('name', PROBES)
def test_optimisation_is_the_published_one(name: str) -> None:
    cfg = load(name)
    optimizer = cfg.optim_wrapper.optimizer
    assert optimizer.type is torch.optim.SGD
    assert (optimizer.lr, optimizer.momentum, optimizer.nesterov, optimizer.weight_decay) == (
        0.1,
        0.9,
        True,
        0,
    )
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=5.0)
    assert cfg.auto_scale_lr.base_batch_size == 512
    assert cfg.train_dataloader.batch_size * 8 == 1024, 'the commands start 8 processes'
    assert cfg.train_cfg.max_epochs == 10
    [schedule] = cfg.param_scheduler
    assert (schedule.warmup, schedule.end, schedule.by_epoch, schedule.convert_to_iter_based) == (
        1,
        10,
        True,
        True,
    )
    assert [(hook.type.__name__, hook.decay) for hook in cfg.custom_hooks] == [('EMAHook', 0.998)]
    mixing = cfg.model.data_preprocessor.batch_augment
    assert (mixing.mixup, mixing.cutmix, mixing.smoothing, mixing.get('prob', 1.0)) == (0.8, 1.0, 0.1, 1.0)


@pytest.mark.parametrize('row', ROWS)
@pytest.mark.parametrize('kind', ['linear', 'attn_pool'])
def test_model_and_data_are_those_of_the_row(row: str, kind: str) -> None:
    cfg, (size, blocks, in_file) = load(f'{kind}_intern_vit_{row}'), ROWS[row]
    backbone = cfg.model.backbone
    assert (backbone.image_size, backbone.num_hidden_layers, backbone.get('pretrained_depth')) == (
        size,
        blocks,
        in_file,
    )
    assert backbone.frozen == 'all'
    assert backbone.get('rms_rounding') == ('fused' if row.startswith('6b') else None)
    assert cfg.model.head.get('norm', 'batch') == 'batch'
    if kind == 'attn_pool':
        assert cfg.model.neck.get('num_heads', 25) == (25 if row.startswith('6b') else 16)
    train = cfg.train_dataloader.dataset
    assert steps(train.transform) == [(RandomResizedCrop, size), (RandomFlip, None)]
    assert train.decoder.backend == 'cv2'
    assert list(cfg.benchmarks) == list(SETS)
    for benchmark, (dataset, metric, decoder, subset) in SETS.items():
        data, [scored] = cfg.benchmarks[benchmark].dataloader.dataset, cfg.benchmarks[benchmark].metrics
        assert (data.type, scored.type, scored.get('class_subset')) == (dataset, metric, subset)
        assert data.get('decoder', dict(backend='pil'))['backend'] == decoder
        assert steps(data.transform) == [(ResizeShortSide, size), (CenterCrop, size)]


def test_the_published_head_is_evaluated_on_the_published_backbone() -> None:
    cfg, base = (
        load('linear_intern_vit_6b_224px_in1k_224_published_head'),
        load('linear_intern_vit_6b_224px_in1k_224'),
    )
    assert cfg.model.head.pop('pretrained') == 'pretrained/intern_vit_6b_224px_head.pth'
    assert cfg.model.backbone.pretrained == 'pretrained/intern_vit_6b_224px.pth'
    assert cfg.model == base.model
    assert cfg.benchmarks == base.benchmarks
