"""What several hooks ask a runner."""

from __future__ import annotations

from typing import Any

from mmengine.model import is_model_wrapper
from mmengine.runner import FlexibleRunner
from torch import nn


def task_of(runner: FlexibleRunner) -> nn.Module:
    """The task itself, without the wrapper of a distributed strategy."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def describe(samples: list[Any]) -> list[dict[str, Any]]:
    """Data set, index and file of each sample, ready for JSON."""
    return [{key: sample.get(key) for key in ('dataset', 'index', 'path')} for sample in samples]
