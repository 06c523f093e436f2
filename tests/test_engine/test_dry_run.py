"""Sizes before a run: counted exactly where they can be, by formula elsewhere; nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.collate_chat import collate_chat
from internvl_mm.engine.config import load_config
from internvl_mm.engine.dry_run import collate_typical, count_flops, dry_run, one_step, tiny
from internvl_mm.engine.hooks import EMAHook
from internvl_mm.engine.hooks.ema import averaged_tensors
from internvl_mm.engine.probe_runner import ProbeRunner
from internvl_mm.engine.probes import KNNProbe
from internvl_mm.engine.runner import build_runner
from internvl_mm.registry import MODELS
from internvl_mm.structures import BadSample, ChatSample, ImageSample
from internvl_mm.utils.console import console
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
    monkeypatch.setattr(console, 'width', 200)
    before = cfg.to_dict()
    dry_run(cfg)
    told = capsys.readouterr().out
    task = MODELS.build(cfg.model)
    assert f'{sum(p.numel() for p in task.parameters()):,}' in told
    (own,) = (line.split('│') for line in told.splitlines() if 'this run' in line)
    weights = sum(t.numel() for t in [*task.parameters(), *averaged_tensors(task).values()]) * 4 / 2**20
    assert float(own[3]) == pytest.approx(weights, rel=1e-3)
    for words in (
        'GFLOPs',
        'batch size 8 (activations measured with 2), MiB per GPU',
        'weights 4·P',
        'zero3_offload',
    ):
        assert words in told
    for name in ('digits', 'train'):
        assert name in told
    assert list(tmp_path.iterdir()) == []
    assert cfg.to_dict() == before


def test_probes_on_cached_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = load_config(DIGITS, ['model.backbone.frozen=all'])
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'default_hooks'):
        cfg.pop(key)
    monkeypatch.setattr(console, 'width', 200)
    cfg.runner_type, cfg.probe = ProbeRunner, dict(type=KNNProbe, ks=[1])
    dry_run(cfg)
    told = capsys.readouterr().out
    assert 'one image ran forward' in told
    assert 'this run' in told and 'zero1' not in told  # nothing trains that others could share out
    assert '202' in told  # trainable: the head alone
    assert list(tmp_path.iterdir()) == []


def test_tiny_changes_a_copy(cfg: Config) -> None:
    cfg.train_dataloader.update(num_workers=4, persistent_workers=True, prefetch_factor=2)
    small = tiny(cfg, work_dir='elsewhere')
    assert (small.train_dataloader.batch_size, small.train_dataloader.num_workers) == (8, 0)
    assert small.train_dataloader.collate_fn.type is collate_typical
    assert not small.train_dataloader.persistent_workers
    cfg.train_dataloader.collate_fn = collate_samples  # a loader takes a function, too
    again = dict(tiny(cfg, work_dir='elsewhere').train_dataloader.collate_fn)
    batch = again.pop('type')([dict(inputs=torch.zeros(3, 2, 2), data_samples=ImageSample())] * 3, **again)
    assert len(batch['inputs']) == 2
    assert small.visualizer is None  # no run in somebody's tracker
    assert (cfg.train_dataloader.batch_size, cfg.train_dataloader.num_workers) == (8, 4)


def test_activations_are_scaled_to_the_configured_batch(
    monkeypatch: pytest.MonkeyPatch, cfg: Config, capsys: pytest.CaptureFixture
) -> None:
    """Eight rows need four times what two need."""
    found = []
    monkeypatch.setattr('internvl_mm.engine.dry_run.print_plan', lambda title, rows, **_: found.extend(rows))
    for size in (2, 8):
        cfg.train_dataloader.batch_size = size
        dry_run(cfg)
    small, large = (memory.activations for name, _, memory in found if name == 'this run')
    assert large == 4 * small


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
    ('name', 'start'), [('chat_finetune', []), ('generative', ['model.model.pretrained=None'])]
)
def test_two_samples_stand_for_a_batch_of_texts(name: str, start: list[str], tmp_path: Path) -> None:
    cfg = load_config(f'quickstart/{name}_intern_vit_tiny_digits.py', start)
    batch = cfg.train_dataloader.batch_size
    predicted = one_step(build_runner(tiny(cfg, work_dir=str(tmp_path)))).activations / 2 * batch
    whole = tiny(cfg, work_dir=str(tmp_path))
    whole.train_dataloader.batch_size = batch
    whole.train_dataloader.collate_fn = cfg.train_dataloader.collate_fn
    assert predicted == pytest.approx(one_step(build_runner(whole)).activations, rel=0.005)


def test_the_pair_has_the_longest_text_and_tiles_as_on_average() -> None:
    def talk(tokens: int, tiles: int) -> dict:
        ids = torch.ones(tokens, dtype=torch.long)
        return dict(inputs=ChatSample(torch.zeros(tiles, 3, 2, 2), (tiles,), ids, ids))

    items = [talk(5, 3), talk(9, 4), talk(3, 2), talk(4, 7), BadSample('d', 4, None, 'broken')]
    made = collate_typical(items, collate=dict(type=collate_chat))  # four tiles on average
    assert made['inputs'].input_ids.shape == (2, 9) and made['inputs'].num_tiles.tolist() == [4, 3]
    pairs = [dict(inputs=[item['inputs'], talk(2, 0)['inputs']]) for item in items[:4]]
    made = collate_typical(pairs, collate=dict(type='collate_preferences'))
    assert made['inputs'].input_ids.shape == (4, 9)
    captions = [
        dict(inputs=torch.zeros(3, 2, 2), data_samples=ImageSample(metainfo=dict(caption='a' * length)))
        for length in (3, 1, 8)
    ]
    made = collate_typical(captions, collate=dict(type=collate_samples))
    assert {len(sample.caption) for sample in made['data_samples']} == {8, 3}
    assert len(collate_typical(items[3:], collate=dict(type=collate_chat))['bad_samples']) == 1
