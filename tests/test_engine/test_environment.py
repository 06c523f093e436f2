"""What a run's numbers depend on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from internvl_mm.engine import environment
from internvl_mm.engine.environment import collect_environment, git_commit, write_environment


def test_environment_names_versions_and_hardware(tmp_path: Path) -> None:
    written = write_environment(tmp_path)
    found = json.loads((tmp_path / 'environment.json').read_text())
    assert found == json.loads(json.dumps(written))
    assert found['packages']['torch'] == torch.__version__ or torch.__version__.startswith(
        found['packages']['torch']
    )
    assert ' x ' in found['cpu']
    assert found['gpus'] == [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def test_missing_packages_and_checkouts_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, 'PACKAGES', ('no-such-package',))

    def no_git(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError('git')

    monkeypatch.setattr(subprocess, 'run', no_git)
    assert git_commit() is None
    assert collect_environment()['packages'] == {'no-such-package': None}
