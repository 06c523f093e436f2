"""A tracker whose package is missing is said before any work."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from internvl_mm.engine import tracking
from internvl_mm.engine.tracking import MLflowVisBackend, WandbVisBackend
from internvl_mm.utils.errors import ConfigError


@pytest.mark.parametrize(('backend', 'package'), [(WandbVisBackend, 'wandb'), (MLflowVisBackend, 'mlflow')])
def test_missing_package(tmp_path, monkeypatch, backend, package):
    monkeypatch.setattr(tracking, 'find_spec', lambda name: None)
    with pytest.raises(
        ConfigError, match=rf"{package}, which is not installed: pip install 'internvl_mm\[{package}\]'"
    ):
        backend(str(tmp_path))


@pytest.mark.parametrize(('backend', 'package'), [(WandbVisBackend, 'wandb'), (MLflowVisBackend, 'mlflow')])
def test_config_adds_the_backend(backend, package):
    settings = Config.fromfile(f'configs/_base_/tracking/{package}.py', lazy_import=False)
    assert [entry['type'] for entry in settings.visualizer.vis_backends][-1] is backend
