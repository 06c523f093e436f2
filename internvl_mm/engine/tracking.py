"""Experiment trackers that are optional extras; a missing package is said before any work starts."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from mmengine.visualization import MLflowVisBackend as MMEngineMLflow
from mmengine.visualization import WandbVisBackend as MMEngineWandb

from internvl_mm.utils.errors import ConfigError


class WandbVisBackend(MMEngineWandb):
    """mmengine's Weights & Biases backend.

    Args:
        save_dir: Where wandb keeps its files; the runner fills it in.
        init_kwargs: Arguments of ``wandb.init``, e.g. ``dict(project='internvl_mm', mode='offline')``.

    Raises:
        ConfigError: wandb is not installed.
    """

    @classmethod
    def check_config(cls, **arguments: Any) -> list[str]:
        """What is wrong before any work starts: the package is missing."""
        return _missing('wandb')

    def __init__(self, save_dir: str, init_kwargs: dict[str, Any] | None = None):
        # Again: check_config sees what a config says, and a backend may be made without one.
        _require('wandb')
        super().__init__(save_dir, init_kwargs=init_kwargs)


class MLflowVisBackend(MMEngineMLflow):
    """mmengine's MLflow backend.

    Args:
        save_dir: Where runs are kept without a server; the runner fills it in.
        exp_name: Name of the experiment.
        tracking_uri: Server; files below ``save_dir`` without one.

    Raises:
        ConfigError: mlflow is not installed.
    """

    @classmethod
    def check_config(cls, **arguments: Any) -> list[str]:
        """What is wrong before any work starts: the package is missing."""
        return _missing('mlflow')

    def __init__(self, save_dir: str, exp_name: str | None = None, tracking_uri: str | None = None):
        _require('mlflow')
        super().__init__(save_dir, exp_name=exp_name, tracking_uri=tracking_uri)


def _missing(package: str) -> list[str]:
    if find_spec(package):
        return []
    return [f"{package} is not installed: pip install 'internvl_mm[{package}]', or leave its backend out"]


def _require(package: str) -> None:
    for problem in _missing(package):
        raise ConfigError(f'visualizer.vis_backends: {problem}')
