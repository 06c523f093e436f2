"""The shipped chat quickstart, cut to a few iterations of few pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.optim import OptimWrapper
from torch.optim import AdamW

from internvl_mm.engine.config import load_config
from internvl_mm.engine.part_rates import PartRates

SHORT = [
    'train_dataloader.dataset.length=16',
    'train_dataloader.batch_size=4',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'benchmarks.digit_chat.dataloader.dataset.length=3',
    'benchmarks.digit_chat.dataloader.batch_size=4',
    'param_scheduler.0.warmup=1',
    'param_scheduler.0.end=2',
    'train_cfg.max_epochs=2',
    'model.chat.language_model.llm_config.num_hidden_layers=1',
    'model.chat.vision.num_hidden_layers=2',
    'log_level=ERROR',
]


def chat_config(work_dir: Path, name: str = 'chat_finetune', *, processes: int = 1, **changes: Any) -> Any:
    """The config; ``changes`` are settings of the model."""
    config = load_config(f'quickstart/{name}_intern_vit_tiny_digits.py', SHORT)
    launcher = 'none' if processes == 1 else 'pytorch'
    config.merge_from_dict(dict(work_dir=str(work_dir), visualizer=None, launcher=launcher))
    config.model.update(changes)
    # Instead of Muon, which ZeRO cannot split; not a dict merged into Muon's.
    config.optim_wrapper = dict(
        type=OptimWrapper,
        optimizer=dict(type=AdamW, lr=3e-3, betas=(0.9, 0.99), weight_decay=0.05),
        clip_grad=dict(max_norm=1.0),
        constructor=PartRates,
    )
    config.default_hooks.update(logger=None, report=None, progress=None, checkpoint=None)
    config.train_dataloader.batch_size = 4 // processes
    config.val_benchmarks = []
    return config
