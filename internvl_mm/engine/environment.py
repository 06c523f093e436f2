"""What a run's numbers depend on: packages, hardware, commit."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import internvl_mm
from internvl_mm.evaluation.report import ENVIRONMENT
from internvl_mm.utils.process import this_process

# Those that numbers or file formats depend on, by their names on PyPI.
PACKAGES = (
    'torch',
    'torchvision',
    'timm',
    'transformers',
    'onedl-mmengine',
    'onedl-mmcv',
    'onedl-mmsegmentation',
    'onedl-mmdetection',
    'deepspeed',
    'safetensors',
    'numpy',
    'Pillow',
    'opencv-python-headless',
    'datasets',
    'webdataset',
)


def collect_environment() -> dict[str, Any]:
    """Versions of packages (``None``: not installed), hardware, git commit and command of this process."""
    return dict(
        internvl_mm=internvl_mm.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        packages={name: _version(name) for name in PACKAGES},
        cpu=_cpu_name(),
        cpu_threads=torch.get_num_threads(),
        # All that are visible to this process, not only the one it uses.
        gpus=[torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        cuda=torch.version.cuda,  # what torch was built for; the driver may be newer
        git=git_commit(),
        command=sys.argv,
    )


def write_environment(folder: str | Path) -> dict[str, Any]:
    """Write ``environment.json`` into a run folder and return what it holds."""
    # The process, so that later runs can see whether it still writes there.
    environment = dict(collect_environment(), process=this_process())
    Path(folder, ENVIRONMENT).write_text(json.dumps(environment, indent=1), 'utf-8')
    return environment


def git_commit() -> str | None:
    """Commit of the checkout the package lies in, ``+changes`` when edited; ``None`` outside a checkout."""
    folder = Path(internvl_mm.__file__).parent

    def git(*arguments: str) -> str:
        # Seconds; a network file system may hang, and a run must not wait for a note about itself.
        done = subprocess.run(
            ['git', *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        return git('rev-parse', 'HEAD') + (
            '+changes' if git('status', '--porcelain', '--untracked-files=no') else ''
        )
    # No git, no checkout, or a folder of another owner, which git refuses.
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        # platform.processor() is empty or only 'x86_64' on Linux.
        lines = Path('/proc/cpuinfo').read_text('utf-8').splitlines()
    except OSError:
        lines = []
    models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return f'{os.cpu_count()} x {models[0] if models else platform.processor() or platform.machine()}'
