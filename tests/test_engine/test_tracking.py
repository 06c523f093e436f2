"""A tracker whose package is missing is said before any work."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.visualization import Visualizer
from torch import nn

from internvl_mm.engine import tracking
from internvl_mm.engine.config import check_config
from internvl_mm.engine.tracking import MLflowVisBackend, WandbVisBackend
from internvl_mm.utils.errors import ConfigError


@pytest.mark.parametrize(('backend', 'package'), [(WandbVisBackend, 'wandb'), (MLflowVisBackend, 'mlflow')])
def test_missing_package(tmp_path, monkeypatch, backend, package):
    monkeypatch.setattr(tracking, 'find_spec', lambda name: None)
    told = rf"{package} is not installed: pip install 'internvl_mm\[{package}\]'"
    with pytest.raises(ConfigError, match=told):
        backend(str(tmp_path))
    visualizer = dict(type=Visualizer, vis_backends=[dict(type=backend)])
    with pytest.raises(ConfigError, match=rf'visualizer.vis_backends.0: {told}'):
        check_config(Config(dict(model=dict(type=nn.Identity), visualizer=visualizer)), purpose='read')


@pytest.mark.parametrize(('backend', 'package'), [(WandbVisBackend, 'wandb'), (MLflowVisBackend, 'mlflow')])
def test_config_adds_the_backend(backend, package):
    settings = Config.fromfile(f'configs/_base_/tracking/{package}.py', lazy_import=False)
    assert [entry['type'] for entry in settings.visualizer.vis_backends][-1] is backend
