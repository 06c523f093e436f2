"""Every task, interrupted and resumed: ``python -m tests.test_engine.task_runs FOLDER TASK…`` by a launcher."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from internvl_mm.data.collate_chat import collate_packed
from internvl_mm.data.datasets import PackedChatDataset
from internvl_mm.data.datasets.digit_chat import DigitChatDataset
from internvl_mm.models.tuning import Lora, PartTuning
from internvl_mm.registry import DATASETS
from tests.test_engine.tiny import SaveAt
from tests.test_engine.tiny_chat_run import chat_config
from tests.test_engine.tiny_detection import detection_config, write_rectangles

# Classification: test_resume, test_strategies; segmentation: test_segmentation_runs.
TASKS = ('detection', 'contrastive', 'generative', 'chat', 'chat_packed', 'chat_four_bit')
HALF, WHOLE = 2, 4  # iterations
TOKENS = 120  # more than any conversation about digits has


@DATASETS.register_module(force=True)
class SizedChats(DigitChatDataset):
    """Conversations that say how long they can get."""

    def sizes(self) -> np.ndarray:
        return np.tile([[TOKENS, 1]], (len(self), 1))


def task_config(task: str, work_dir: Path, *, processes: int = 1, **changes: Any) -> dict[str, Any]:
    """A whole config whose runs are stopped after :data:`WHOLE` iterations; workers draw ahead."""
    from mmengine.config import Config

    from internvl_mm.engine.strategies import DDPStrategy, SingleDeviceStrategy

    kind = SingleDeviceStrategy if processes == 1 else DDPStrategy
    changes |= dict(
        work_dir=str(work_dir),
        launcher='none' if processes == 1 else 'pytorch',
        strategy=dict(type=kind, find_unused_parameters=True) if processes > 1 else dict(type=kind),
        val_benchmarks=[],
    )
    if task == 'detection':
        work_dir.mkdir(parents=True, exist_ok=True)
        # By each process its own: the same pictures, and nobody reads half a file.
        data = work_dir / f'data{os.environ.get("RANK", 0)}'
        data.mkdir(exist_ok=True)
        config = Config(detection_config(work_dir, write_rectangles(data, count=8)))
    elif task.startswith('chat'):
        config = chat_config(work_dir, processes=processes)
        if task == 'chat_four_bit':
            config.model.language = dict(
                type=PartTuning, train='none', lora=dict(type=Lora, rank=2, quantise='nf4')
            )
            config.model.chat.language_model.llm_config.hidden_size = 128  # whole blocks of 64
        if task == 'chat_packed':
            chats = dict(config.train_dataloader.dataset.to_dict(), type=SizedChats)
            packs = dict(type=PackedChatDataset, dataset=chats, max_tokens=2 * TOKENS, max_tiles=4)
            # Replaced, not merged: update would keep the other data set's settings.
            parts = dict(dataset=packs, batch_size=1, collate_fn=dict(type=collate_packed))
            config.train_dataloader = dict(config.train_dataloader.to_dict(), **parts)
    else:
        config = _pairs(task)
    config.merge_from_dict(changes)
    config.train_dataloader.update(num_workers=2 if task == 'contrastive' else 0, persistent_workers=False)
    config.log_level = 'ERROR'
    return config


def _pairs(task: str) -> Any:
    from internvl_mm.engine.config import load_config

    config = load_config(f'quickstart/{task}_intern_vit_tiny_digits.py')
    config.visualizer = None
    config.default_hooks.update(logger=None, report=None, progress=None, checkpoint=None, pictures=None)
    config.train_dataloader.batch_size = 4
    if task == 'generative':
        config.model.model.pop('pretrained', None)
    return config


def states(task: str, folder: Path, *, processes: int = 1) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Files of the state after :data:`WHOLE` iterations, of an uninterrupted run and of one in two parts."""
    from internvl_mm.utils.states import find_states
    from tests.test_engine.two_processes import train

    losses, _ = train(task_config(task, folder / 'whole', processes=processes), SaveAt(WHOLE))
    first, _ = train(task_config(task, folder / 'split', processes=processes), SaveAt(HALF))
    second, _ = train(task_config(task, folder / 'split', processes=processes, resume=True), SaveAt(WHOLE))
    assert len(losses) == WHOLE
    assert first + second == losses, f'{first + second} instead of {losses}'
    found = []
    for name in ('whole', 'split'):
        [state] = [
            state
            for place in (folder / name).glob('*/checkpoints')
            for state in find_states(place)
            if state.name == f'iter_{WHOLE:06d}'
        ]
        found.append(
            {
                file.name: file.read_bytes()
                for file in sorted(state.iterdir())
                # Times of iterations, and when the state was written, differ.
                if not file.name.startswith(('message_hub', 'meta', 'manifest'))
            }
        )
    return found[0], found[1]


def check(task: str, folder: Path, *, processes: int = 1) -> None:
    """Raise unless both runs end in the same bytes."""
    whole, resumed = states(task, folder, processes=processes)
    assert whole.keys() == resumed.keys()
    assert {
        'model.safetensors',
        'optimizer.safetensors',
        f'rng.rank{processes - 1}.safetensors',
    } <= whole.keys()
    assert not [name for name in whole if whole[name] != resumed[name]]


if __name__ == '__main__':
    for wanted in sys.argv[2:]:
        check(wanted, Path(sys.argv[1]) / wanted, processes=int(os.environ['WORLD_SIZE']))
