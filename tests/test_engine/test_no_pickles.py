"""A file that wants to run code is refused, whichever way mmengine would have come to it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.fileio.handlers import file_handlers
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint

from internvl_mm.engine.runner import Runner
from internvl_mm.utils.errors import CheckpointError, DataError
from tests.test_engine.tiny import tiny_config


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def restored():
    """The doors as they were, for tests that come later."""
    handlers, loader = dict(file_handlers), CheckpointLoader.__dict__['load_checkpoint']
    yield
    file_handlers.update(handlers)
    CheckpointLoader.load_checkpoint = loader


def test_no_way_through_mmengine(tmp_path: Path, work_dir: Path, restored: None) -> None:
    marker = tmp_path / 'executed'
    for name in ('weights.pth', 'annotations.pkl', 'annotations.pickle'):
        (tmp_path / name).write_bytes(pickle.dumps(dict(state_dict=Malicious(marker))))
    Runner.from_cfg(tiny_config(work_dir))
    part = BaseModule(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth')))
    with pytest.raises(CheckpointError, match='weights.pth.*pickles run code: convert it'):
        part.init_weights()
    with pytest.raises(CheckpointError, match='pickles run code'):
        load_checkpoint(torch.nn.Linear(1, 1), str(tmp_path / 'weights.pth'))
    for name in ('annotations.pkl', 'annotations.pickle'):
        with pytest.raises(DataError, match='is a pickle.*as JSON'):
            mmengine.load(str(tmp_path / name))
        with open(tmp_path / name, 'rb') as file, pytest.raises(DataError, match='is a pickle'):
            mmengine.load(file, file_format='pkl')
    assert not marker.exists()
    mmengine.dump(dict(a=1), str(tmp_path / 'written.pkl'))  # results may still be written so
    assert (tmp_path / 'written.pkl').stat().st_size


@pytest.mark.parametrize('setting', ['load_from', 'resume'])
def test_no_way_through_the_runner(tmp_path: Path, work_dir: Path, setting: str, restored: None) -> None:
    marker = tmp_path / 'executed'
    (tmp_path / 'weights.pth').write_bytes(pickle.dumps(dict(state_dict=Malicious(marker))))
    with pytest.raises(CheckpointError):
        Runner.from_cfg(tiny_config(work_dir, **{setting: str(tmp_path / 'weights.pth')})).train()
    assert not marker.exists()
