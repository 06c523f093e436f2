"""Stages 1 and 2 by several processes: ``python -m tests.test_engine.two_alignment_processes FOLDER NAME…``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from tests.test_engine.two_processes import train

# One epoch of two iterations of 8 pairs; texts of one length, so that means over tokens are those of the whole batch.
SHORT = [
    'train_dataloader.dataset.length=16',
    'train_dataloader.dataset.kinds=(1,)',
    "train_dataloader.dataset.languages=('en',)",
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=2',
    'log_level=ERROR',
]


def config_for(stage: str, strategy: str, work_dir: Path, *, processes: int) -> Any:
    """The shipped stage in small with a shipped strategy, SGD instead of Muon, which ZeRO cannot split."""
    from mmengine.optim import OptimWrapper
    from torch.optim import SGD

    from internvl_mm.engine.config import load_config

    config = load_config(f'quickstart/{stage}_intern_vit_tiny_digits.py', SHORT)
    # Not AdamW: it makes whole steps of gradients that are nothing but rounding. Not a dict merged into Muon's.
    config.optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.05, momentum=0.9))
    config.merge_from_dict(
        dict(
            strategy=load_config(f'_base_/strategies/{strategy}.py').strategy,
            launcher='none' if processes == 1 else 'pytorch',
            work_dir=str(work_dir),
            visualizer=None,
        )
    )
    config.param_scheduler = []
    config.benchmarks = {}
    if stage == 'generative':
        # Frozen parts stay as they are drawn: from the same seed in every process.
        config.model.model.pretrained = None
    config.default_hooks.update(logger=None, pictures=None, report=None, checkpoint=None)
    config.train_dataloader.batch_size = 8 // processes
    return config


def main(folder: Path, names: list[str]) -> None:
    """Train each stage with each strategy, ``stage-strategy``."""
    from mmengine.dist import get_rank

    processes = int(os.environ.get('WORLD_SIZE', 1))
    for name in names:
        stage, _, strategy = name.partition('-')
        losses, runner = train(config_for(stage, strategy, folder / name, processes=processes))
        tensors = runner.strategy.model_state_dict()
        if get_rank() == 0:
            whole = {key: value.contiguous() for key, value in tensors.items()}
            save_file(whole, folder / f'{name}.safetensors')
            (folder / f'{name}.json').write_text(json.dumps(losses))


if __name__ == '__main__':
    main(Path(sys.argv[1]), sys.argv[2:])
