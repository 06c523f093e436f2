"""The shipped segmentation quickstart, cut to 20 steps, by several processes: ``python -m … FOLDER STRATEGY…``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

CONFIG = 'quickstart/seg_upernet_full_intern_vit_tiny_digits.py'
STEPS = 20
# Random layers draw differently in each process, and class weights divide each process's loss by its own pixels.
SHORT = [
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'model.backbone.pretrained=None',
    'model.decode_head.dropout_ratio=0',
    'model.decode_head.loss_decode.class_weight=None',
    'model.auxiliary_head.loss_decode.class_weight=None',
    'param_scheduler.0.warmup=1',
    'param_scheduler.0.end=5',
    'train_cfg.max_epochs=5',
    'val_benchmarks=[]',
    'log_level=ERROR',
]


def config_for(name: str, work_dir: Path, data: Path, *, processes: int, **changes: Any) -> Any:
    """The shipped config with a shipped strategy on 32 scenes."""
    from mmengine.optim import OptimWrapper
    from torch.optim import AdamW

    from internvl_mm.engine.config import check_config, load_config
    from internvl_mm.engine.optim import LayerDecay

    config = load_config(CONFIG, SHORT)
    # Instead of Muon, which ZeRO cannot split; not a dict merged into Muon's.
    config.optim_wrapper = dict(
        type=OptimWrapper,
        optimizer=dict(type=AdamW, lr=3e-3, betas=(0.9, 0.99), weight_decay=0.05),
        clip_grad=dict(max_norm=5.0),
        constructor=LayerDecay,
        paramwise_cfg=dict(decay_rate=1.0),
    )
    changes |= dict(
        strategy=load_config(f'_base_/strategies/{name}.py').strategy,
        launcher='none' if processes == 1 else 'pytorch',
        work_dir=str(work_dir),
        visualizer=None,
    )
    config.merge_from_dict(changes)
    config.default_hooks.update(logger=None, pictures=None, report=None)
    config.train_dataloader.batch_size = 8 // processes
    for loader in (config.train_dataloader, config.benchmarks.scenes.dataloader):
        loader.dataset.dataset.data_root = str(data / 'segmentation')
    check_config(config)
    return config


def main(folder: Path, names: list[str]) -> None:
    """Train with each strategy; then once more, interrupted after half of the steps and resumed."""
    from mmengine.dist import get_rank

    from tests.test_engine.tiny import SaveAt
    from tests.test_engine.two_processes import train

    processes, data = int(os.environ.get('WORLD_SIZE', 1)), folder.parent / 'scenes'
    for name in names:
        losses, _ = train(config_for(name, folder / name / 'whole', data, processes=processes))
        split = folder / name / 'split'
        first, _ = train(config_for(name, split, data, processes=processes), SaveAt(STEPS // 2))
        second, runner = train(config_for(name, split, data, processes=processes, resume=True))
        metrics = runner.test()
        if get_rank() == 0:
            result = dict(losses=losses, resumed=first + second, metrics=metrics)
            (folder / f'{name}.json').write_text(json.dumps(result))


if __name__ == '__main__':
    main(Path(sys.argv[1]), sys.argv[2:])
