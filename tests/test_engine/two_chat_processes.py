"""The chat quickstart by several processes: ``python -m tests.test_engine.two_chat_processes FOLDER STRATEGY…``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from tests.test_engine.two_processes import train


def config_for(name: str, work_dir: Path, *, processes: int, **changes: Any) -> Any:
    """The shipped fine-tuning with a shipped strategy; losses are means over the global batch."""
    from internvl_mm.engine.config import load_config
    from tests.test_engine.tiny_chat_run import chat_config

    config = chat_config(work_dir, processes=processes, all_gather=True, reduction='square')
    config.merge_from_dict(dict(changes, strategy=load_config(f'_base_/strategies/{name}.py').strategy))
    config.train_cfg.max_epochs = 1
    return config


def main(folder: Path, names: list[str]) -> None:
    """Train with each strategy; then once more, interrupted and resumed."""
    from mmengine.dist import get_rank

    from tests.test_engine.tiny import SaveAt

    processes = int(os.environ.get('WORLD_SIZE', 1))
    for name in names:
        losses, runner = train(config_for(name, folder / name / 'whole', processes=processes))
        tensors = runner.strategy.model_state_dict()
        split = folder / name / 'split'
        first, _ = train(config_for(name, split, processes=processes), SaveAt(2))
        second, _ = train(config_for(name, split, processes=processes, resume=True))
        metrics = runner.test()
        if get_rank() == 0:
            save_file(
                {key: value.contiguous() for key, value in tensors.items()}, folder / f'{name}.safetensors'
            )
            result = dict(losses=losses, resumed=first + second, metrics=metrics)
            (folder / f'{name}.json').write_text(json.dumps(result))


if __name__ == '__main__':
    main(Path(sys.argv[1]), sys.argv[2:])
