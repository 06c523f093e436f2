"""What the doctor finds, and that it finds what is wrong."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from internvl_mm.engine.doctor import CHECKS, examine, findings, hardware, installation
from internvl_mm.utils.errors import UserError
from tools.doctor import main


def test_every_check_finds_this_machine_fit_or_says_what_to_know(tmp_path: Path) -> None:
    found = list(examine(tmp_path))
    assert [finding.check for finding in found] == list(CHECKS)
    assert not [finding for finding in found if finding.verdict == 'wrong']
    assert not list(tmp_path.iterdir())


def test_a_broken_check_does_not_hide_the_others(tmp_path: Path, monkeypatch, capsys) -> None:
    def broken(folder: Path) -> str:
        raise RuntimeError('no driver')

    monkeypatch.setattr(findings, 'CHECKS', {'devices': broken, 'images': CHECKS['damaged images']})
    assert [finding.verdict for finding in examine(tmp_path)] == ['wrong', 'ok']
    assert main(['--work-dir', str(tmp_path)]) == 1
    assert '1 of 2 checks found something wrong' in capsys.readouterr().out


def test_packages(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(metadata, 'requires', lambda name: ['torch>=2', 'wandb; extra == "wandb"'])
    assert installation.packages(tmp_path) == '1 packages within their ranges'
    monkeypatch.setattr(metadata, 'requires', lambda name: ['no-such-package>=2'])
    with pytest.raises(UserError, match='not installed: no-such-package'):
        installation.packages(tmp_path)
    monkeypatch.setattr(metadata, 'requires', lambda name: ['torch>=99'])
    with pytest.raises(UserError, match='versions nobody has tried: torch'):
        installation.packages(tmp_path)


def test_a_gpu_that_torch_does_not_see(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(hardware.torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(hardware.shutil, 'which', lambda name: '/usr/bin/nvidia-smi')
    with pytest.raises(installation.Note, match='sees no GPU: install the torch build of your CUDA'):
        hardware.devices(tmp_path)


def test_little_room_is_worth_a_note(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(hardware, 'ENOUGH_SPACE', 2**70)
    with pytest.raises(installation.Note, match='a training state of a 300M model takes 5 GB'):
        hardware.disk(tmp_path)


def test_processes_that_do_not_meet(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(hardware, '_MEET', 'raise SystemExit("no route")')
    with pytest.raises(RuntimeError, match='could not add numbers: no route'):
        hardware.two_processes(tmp_path)


def test_config_of_missing_files(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(findings, 'CHECKS', {})
    config = 'quickstart/finetune_intern_vit_tiny_digits'
    assert main(['--work-dir', str(tmp_path), '--config', config]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(['--work-dir', str(tmp_path), '--config', 'quickstart/linear_intern_vit_tiny_digits']) == 2
    assert 'work_dirs/finetune_intern_vit_tiny_digits' in capsys.readouterr().err
