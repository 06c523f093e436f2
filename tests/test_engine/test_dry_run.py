"""Sizes before a run: counted exactly where they can be, by formula elsewhere; nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch.optim import SGD, AdamW

from internvl_mm.engine.config import load_config
from internvl_mm.engine.dry_run import Memory, count_flops, dry_run, estimate_memory, state_per_value, tiny
from internvl_mm.engine.hooks import EMAHook
from internvl_mm.engine.hooks.ema import averaged_tensors
from internvl_mm.engine.probe_runner import ProbeRunner
from internvl_mm.engine.probes import KNNProbe
from internvl_mm.registry import MODELS
from internvl_mm.structures import ImageSample
from internvl_mm.utils.flops import vit_flops

DIGITS = str(Path(__file__).parents[1] / 'data' / 'configs' / 'digits.py')


@pytest.fixture
def cfg() -> Config:
    return load_config(DIGITS)


def test_prints_everything_and_leaves_nothing(
    cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg.work_dir = str(tmp_path / 'runs')
    cfg.custom_hooks = [dict(type=EMAHook)]
    before = cfg.to_dict()
    dry_run(cfg)
    told = capsys.readouterr().out
    task = MODELS.build(cfg.model)
    assert f'{sum(p.numel() for p in task.parameters()):,}' in told
    rows = [line.split() for line in told.splitlines()]
    (averaged,) = (row[-2] for row in rows if row[1:3] == ['averaged', 'weights'])
    assert float(averaged) == pytest.approx(
        sum(t.numel() for t in averaged_tensors(task).values()) * 4 / 2**20, rel=1e-3
    )
    for words in ('GFLOPs', 'optimizer state', 'activations (2 measured, 8 estimated)', 'digits', 'train'):
        assert words in told
    assert list(tmp_path.iterdir()) == []
    assert cfg.to_dict() == before


def test_probes_on_cached_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = load_config(DIGITS, ['model.backbone.frozen=all'])
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'default_hooks'):
        cfg.pop(key)
    cfg.runner_type, cfg.probe = ProbeRunner, dict(type=KNNProbe, ks=[1])
    dry_run(cfg)
    told = capsys.readouterr().out
    assert 'one image ran forward' in told
    assert '202' in told  # trainable: the head alone
    assert list(tmp_path.iterdir()) == []


def test_tiny_changes_a_copy(cfg: Config) -> None:
    cfg.train_dataloader.update(num_workers=4, persistent_workers=True, prefetch_factor=2)
    small = tiny(cfg, work_dir='elsewhere')
    assert (small.train_dataloader.batch_size, small.train_dataloader.num_workers) == (2, 0)
    assert not small.train_dataloader.persistent_workers
    assert small.visualizer is None  # no run in somebody's tracker
    assert (cfg.train_dataloader.batch_size, cfg.train_dataloader.num_workers) == (8, 4)


def test_flops_agree_with_the_formula(cfg: Config) -> None:
    task = MODELS.build(cfg.model)
    batch = dict(
        inputs=[torch.zeros(3, 28, 28, dtype=torch.uint8)],
        data_samples=[ImageSample.labelled(1, dataset='digits', index=0)],
    )
    counted = count_flops(task, batch)
    head = 2 * 16 * 10  # cls_patch_concat gives 2 · 8 values for 10 classes
    assert counted == vit_flops(1, 8, 16, grid=(2, 2)) + head
    assert task.training


@pytest.mark.parametrize(
    ('optimizer', 'values'),
    [
        (dict(type=AdamW, lr=1.0), 2),
        (dict(type=AdamW, lr=1.0, amsgrad=True), 3),
        (dict(type=SGD, lr=1.0, momentum=0.9, nesterov=True), 1),
        (dict(type=SGD, lr=1.0), 0),
    ],
)
def test_optimizer_state(optimizer: dict, values: int) -> None:
    assert state_per_value(optimizer) == values


def test_memory_by_strategy() -> None:
    task = nn.ModuleList([nn.Linear(10, 10, bias=False), nn.Linear(10, 30, bias=False).requires_grad_(False)])
    given = dict(state_values=2, activations=7.0, world_size=4)
    assert estimate_memory(task, **given) == Memory(1600, 400, 800, 0, 7)
    assert estimate_memory(task, **given, averaged=1600).device == 1600 + 400 + 800 + 1600 + 7
    assert estimate_memory(task, **given, zero_stage=1) == Memory(1600, 400, 200, 0, 7)
    assert estimate_memory(task, **given, zero_stage=2) == Memory(1600, 100, 200, 0, 7)
    assert estimate_memory(task, **given, zero_stage=3) == Memory(400, 100, 200, 0, 7)
    assert estimate_memory(task, **given, zero_stage=2, offload=True) == Memory(1600, 100, 0, 0, 7, host=200)
    assert estimate_memory(task, **given, zero_stage=3, offload=True) == Memory(0, 100, 0, 0, 7, host=600)
