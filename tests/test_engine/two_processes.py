"""Runs by several processes, as a launcher would start them: ``python -m … FOLDER STRATEGY…``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

BATCH_NORM = (
    'batch_norm'  # the tiny config under DDP, instead of the shipped one with a strategy of this name
)
# The shipped fine-tuning, cut to 2 epochs of 3 iterations.
SHORT = [
    'train_dataloader.dataset.length=24',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'benchmarks.digits.dataloader.dataset.length=13',
    'param_scheduler.0.warmup=1',
    'param_scheduler.0.end=2',
    'train_cfg.max_epochs=2',
    'log_level=ERROR',
]


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def launch(
    folder: Path,
    names: list[str],
    *,
    processes: int,
    repo: Path,
    module: str = 'two_processes',
    grows_from: Path | str = '',
    timeout: float = 300,
) -> None:
    """Run strategies one after the other; each leaves ``<name>.json`` and ``<name>.safetensors``."""
    port = free_port()
    started = []
    for rank in range(processes):
        who = dict(
            RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=processes, MASTER_ADDR='127.0.0.1', MASTER_PORT=port
        )
        started.append(
            subprocess.Popen(
                [sys.executable, '-m', f'tests.test_engine.{module}', str(folder), *names],
                cwd=repo,
                env=dict(
                    os.environ,
                    GROWS_FROM=str(grows_from),
                    **{name: str(value) for name, value in who.items()},
                ),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    outputs = [process.communicate(timeout=timeout)[0] for process in started]
    assert all(process.returncode == 0 for process in started), outputs[0][-3000:]


def config_for(name: str, work_dir: Path, *, processes: int, **changes: Any) -> Any:
    """The shipped fine-tuning with a shipped strategy; or the tiny config, whose head has batch norm, with DDP."""
    from internvl_mm.engine.config import check_config, load_config
    from internvl_mm.engine.strategies import DDPStrategy, SingleDeviceStrategy
    from tests.test_engine.tiny import tiny_config, tiny_model

    launcher = 'none' if processes == 1 else 'pytorch'
    if name == BATCH_NORM:
        kind = SingleDeviceStrategy if processes == 1 else DDPStrategy
        # Random layers draw differently in each process.
        model = tiny_model(drop_path=0.0)
        config = tiny_config(work_dir, strategy=dict(type=kind), launcher=launcher, model=model, **changes)
        config['train_dataloader']['batch_size'] = 4 // processes
        return config
    strategy = load_config(f'_base_/strategies/{name}.py').strategy
    config = load_config('quickstart/finetune_intern_vit_tiny_digits.py', SHORT)
    config.merge_from_dict(
        dict(changes, strategy=strategy, launcher=launcher, work_dir=str(work_dir), visualizer=None)
    )
    config.default_hooks.update(logger=None, pictures=None, report=None)
    config.train_dataloader.batch_size = 8 // processes
    check_config(config)
    return config


def train(config: Any, *hooks: Any) -> tuple[list[float], Any]:
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
    """Train with each strategy; then once more, interrupted in the middle of an epoch and resumed."""
    from mmengine.dist import get_rank

    from tests.test_engine.tiny import SaveAt

    processes = int(os.environ.get('WORLD_SIZE', 1))
    for name in names:
        config = config_for(name, folder / name / 'whole', processes=processes)
        losses, runner = train(config, SaveAt(2, stop=False))  # writing a state changes nothing
        tensors = runner.strategy.model_state_dict()
        metrics = runner.test()
        split = folder / name / 'split'
        first, _ = train(config_for(name, split, processes=processes), SaveAt(4))
        second, resumed = train(config_for(name, split, processes=processes, resume=True))
        again = resumed.strategy.model_state_dict()
        grown = []
        if os.environ.get('GROWS_FROM') and name in ('ddp', 'zero2', 'zero3', 'fsdp2'):
            grown, _ = train(
                config_for(
                    name, folder / name / 'grown', processes=processes, resume=os.environ['GROWS_FROM']
                )
            )
        if get_rank() == 0:
            save_file(
                {key: tensor.contiguous() for key, tensor in tensors.items()}, folder / f'{name}.safetensors'
            )
            save_file(
                {key: tensor.contiguous() for key, tensor in again.items()},
                folder / f'{name}_again.safetensors',
            )
            result = dict(losses=losses, resumed=first + second, metrics=metrics, grown=grown)
            (folder / f'{name}.json').write_text(json.dumps(result))


if __name__ == '__main__':
    main(Path(sys.argv[1]), sys.argv[2:])
