"""Runs of the tiny config by several processes, as a launcher would start them: ``python -m … FOLDER STRATEGY…``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

STRATEGIES: dict[str, dict[str, Any]] = dict(
    single=dict(type='SingleDeviceStrategy'),
    ddp=dict(type='DDPStrategy'),
    zero1=dict(type='DeepSpeedStrategy', zero_stage=1),
    zero2=dict(type='DeepSpeedStrategy', zero_stage=2),
    zero3=dict(type='DeepSpeedStrategy', zero_stage=3),
    zero3_offload=dict(type='DeepSpeedStrategy', zero_stage=3, offload=True),
)


def launch(folder: Path, names: list[str], *, processes: int, repo: Path) -> None:
    """Run strategies one after the other; each leaves ``<name>.json`` and ``<name>.safetensors``."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    started = []
    for rank in range(processes):
        who = dict(
            RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=processes, MASTER_ADDR='127.0.0.1', MASTER_PORT=port
        )
        started.append(
            subprocess.Popen(
                [sys.executable, '-m', 'tests.test_engine.two_processes', str(folder), *names],
                cwd=repo,
                env=dict(os.environ, **{name: str(value) for name, value in who.items()}),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    outputs = [process.communicate(timeout=300)[0] for process in started]
    assert all(process.returncode == 0 for process in started), outputs[0][-3000:]


def config_for(name: str, work_dir: Path, *, processes: int, **changes: Any) -> dict[str, Any]:
    """The tiny config with a global batch of 4, without random layers."""
    from internvl_mm.engine import strategies
    from tests.test_engine.tiny import tiny_config, tiny_model

    strategy = dict(STRATEGIES[name])
    strategy['type'] = getattr(strategies, strategy['type'])
    launcher = 'none' if name == 'single' else 'pytorch'
    config = tiny_config(
        work_dir, strategy=strategy, launcher=launcher, model=tiny_model(drop_path=0.0), **changes
    )
    config['train_dataloader']['batch_size'] = 4 // processes
    return config


def train(config: dict[str, Any], *hooks: Any) -> tuple[list[float], Any]:
    """Train; losses are means over the processes."""
    from mmengine.dist import all_gather_object

    from internvl_mm.engine.runner import Runner
    from tests.test_engine.tiny import LossRecorder, StopTraining

    recorder = LossRecorder()
    runner = Runner.from_cfg(config)
    for hook in (recorder, *hooks):
        runner.register_hook(hook)
    try:
        runner.train()
    except StopTraining:
        pass
    every = all_gather_object(recorder.losses)
    return [sum(losses) / len(losses) for losses in zip(*every, strict=True)], runner


def main(folder: Path, names: list[str]) -> None:
    """Train with each strategy; then once more, interrupted and resumed."""
    from mmengine.dist import get_rank

    from tests.test_engine.tiny import SaveAt

    processes = int(os.environ.get('WORLD_SIZE', 1))
    for name in names:
        config = config_for(name, folder / name / 'whole', processes=processes)
        losses, runner = train(config, SaveAt(4, stop=False))  # writing a state changes nothing
        tensors = runner.strategy.model_state_dict()
        metrics = runner.test()
        split = folder / name / 'split'
        first, _ = train(config_for(name, split, processes=processes), SaveAt(3))
        second, resumed = train(config_for(name, split, processes=processes, resume=True))
        again = resumed.strategy.model_state_dict()
        if get_rank() == 0:
            save_file(
                {key: tensor.contiguous() for key, tensor in tensors.items()}, folder / f'{name}.safetensors'
            )
            save_file(
                {key: tensor.contiguous() for key, tensor in again.items()},
                folder / f'{name}_again.safetensors',
            )
            result = dict(losses=losses, resumed=first + second, metrics=metrics)
            (folder / f'{name}.json').write_text(json.dumps(result))


if __name__ == '__main__':
    main(Path(sys.argv[1]), sys.argv[2:])
