"""A config and the checkpoint that it evaluates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from internvl_mm.engine.checkpoint import FROZEN, get_rng, save_state
from internvl_mm.engine.config import set_checkpoint
from internvl_mm.utils.errors import CheckpointError


def state(folder: Path, **meta: str) -> Path:
    shared = dict(state_dict=dict(weight=torch.zeros(2)), meta=dict(iter=1, **meta))
    return save_state(folder / 'checkpoints' / 'iter_000001', shared, dict(rng=get_rng()))


def starts(cfg: Config) -> list[str | None]:
    model = cfg.model
    return [
        model.backbone.pretrained,
        model.necks[0].pretrained,
        model.chat.pretrained_connector,
        model.chat.language_model.pretrained,
        model.here.pretrained,
    ]


def config(here: Path) -> Config:
    gone = dict(pretrained='gone/backbone')
    return Config(
        dict(
            model=dict(
                backbone=dict(gone),
                necks=[dict(gone)],
                chat=dict(language_model=dict(gone), pretrained_connector='gone/mlp1', pretrained_depth=2),
                here=dict(pretrained=str(here)),
            )
        )
    )


@pytest.mark.parametrize('at', ['state', 'work_dir'])
def test_where_a_training_started_from_may_be_gone(tmp_path: Path, at: str) -> None:
    saved, cfg = state(tmp_path), config(tmp_path)
    set_checkpoint(cfg, str(saved if at == 'state' else tmp_path))
    assert starts(cfg) == [None, None, None, 'gone/backbone', str(tmp_path)]
    assert cfg.load_from == str(saved if at == 'state' else tmp_path)


@pytest.mark.parametrize('what', ['trainable weights only', 'a file', 'nothing'])
def test_where_it_is_needed_it_stays(tmp_path: Path, what: str) -> None:
    if what == 'trainable weights only':
        checkpoint: str | None = str(state(tmp_path, **{FROZEN: '0' * 64}))
    else:
        checkpoint = 'model.safetensors' if what == 'a file' else None
    cfg = config(tmp_path)
    set_checkpoint(cfg, checkpoint)
    assert starts(cfg) == ['gone/backbone', 'gone/backbone', 'gone/mlp1', 'gone/backbone', str(tmp_path)]


def test_a_damaged_state_is_told(tmp_path: Path) -> None:
    saved = state(tmp_path)
    (saved / 'meta.json').write_bytes(b'{}')
    with pytest.raises(CheckpointError, match='the checkpoint is damaged'):
        set_checkpoint(config(tmp_path), str(saved))
