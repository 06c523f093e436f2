"""Every task with weights shared out: ``python -m tests.test_engine.two_shared_processes FOLDER NAME…``."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from safetensors.torch import save_file
from torch import nn

from internvl_mm.data.collate_prompts import collate_preferences
from internvl_mm.data.datasets.digit_chat import DigitChatDataset
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.models.tasks.preference import PreferenceTuning
from internvl_mm.models.tuning import Lora, PartTuning
from internvl_mm.registry import DATASETS, MODELS
from internvl_mm.structures import IGNORE
from internvl_mm.utils.errors import ConfigError
from internvl_mm.utils.hashing import hash_settings

STEPS = 2


@MODELS.register_module(force=True)
class GrowingClassifier(ImageClassifier):
    """Sets more than values when its weights are started."""

    def init_weights(self) -> None:
        super().init_weights()
        self.started = True


@MODELS.register_module(force=True)
class LookingClassifier(ImageClassifier):
    """Wants to see values when it is built."""

    def __init__(self, **parts: Any):
        super().__init__(**parts)
        self.start = float(self.head.linear.weight.sum())


@MODELS.register_module(force=True)
class CountingClassifier(ImageClassifier):
    """Wants to see values as NumPy's."""

    def __init__(self, **parts: Any):
        super().__init__(**parts)
        self.start = float(self.head.linear.weight.detach().numpy().sum())


@MODELS.register_module(force=True)
class RefusingClassifier(ImageClassifier):
    """Refuses to start, which the first process alone finds out."""

    def init_weights(self) -> None:
        raise ConfigError('these weights do not fit')


@MODELS.register_module(force=True)
class CachingClassifier(ImageClassifier):
    """Has a buffer that no state holds, another on every process, weights used twice, and one without dimensions."""

    def __init__(self, **parts: Any):
        super().__init__(**parts)
        shift = torch.tensor([0.5, 0.0, -0.5]) + get_rank()
        self.register_buffer('shift', shift * shift, persistent=False)
        # Of states, but with odd memory: strides, and no values at all.
        self.register_buffer('turned', torch.arange(6.0).view(2, 3).t())
        self.register_buffer('nothing', torch.zeros(0, 3))
        self.twin = nn.Linear(self.head.linear.in_features, 3)
        self.twin.weight = self.head.linear.weight
        self.temperature = nn.Parameter(torch.tensor(1.5))

    def loss(self, inputs: Any, data_samples: list[Any]) -> dict[str, Any]:
        features = self.extract(inputs)
        logits = (self.head(features) + self.twin(features)) * self.temperature + self.shift
        return dict(loss=self.criterion(logits, self._target(data_samples)))


@DATASETS.register_module(force=True)
class PairedChats(DigitChatDataset):
    """Each answer, and the same with its tokens in another order."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = super().__getitem__(index)
        chosen = item['inputs']
        ids, learned = chosen.input_ids.clone(), chosen.labels != IGNORE
        ids[learned] = ids[learned].flip(0)
        rejected = replace(chosen, input_ids=ids, labels=torch.where(learned, ids, chosen.labels))
        return dict(item, inputs=[chosen, rejected])


CLASSIFIERS = dict(
    classification=ImageClassifier,
    averaged=ImageClassifier,
    growing=GrowingClassifier,
    looking=LookingClassifier,
    counting=CountingClassifier,
    published=ImageClassifier,
    refusing=RefusingClassifier,
    caching=CachingClassifier,
)


def config_for(case: str, strategy: str, work_dir: Path, **changes: Any) -> Any:
    """A tiny run of a task with a shipped strategy, by SGD, which rounding errors stay small under."""
    from mmengine.config import Config
    from mmengine.optim import OptimWrapper
    from torch.optim import SGD

    from internvl_mm.engine.config import load_config
    from internvl_mm.engine.hooks import EMAHook
    from tests.test_engine.task_runs import task_config
    from tests.test_engine.tiny import tiny_config, tiny_model
    from tests.test_engine.tiny_chat_run import chat_config

    processes = int(os.environ.get('WORLD_SIZE', 1))
    if case in CLASSIFIERS:
        model = dict(tiny_model(drop_path=0.0), type=CLASSIFIERS[case])
        model['head'].update(norm='layer')
        config = Config(tiny_config(work_dir, model=model))
        config.train_dataloader.batch_size = 4 // processes
        if case == 'published':
            config.load_from = str(work_dir.parents[1] / 'vit.safetensors')
        if case == 'averaged':
            config.custom_hooks = [dict(type=EMAHook, decay=0.5)]
    elif case in ('chat', 'lora', 'packed', 'preference'):
        config = chat_config(work_dir, processes=processes)
        if case == 'lora':
            adapted = dict(type=PartTuning, train='none', lora=dict(type=Lora, rank=2, dropout=0.0))
            config.model.update(vision=adapted, language=adapted)
        if case == 'packed':
            lora = dict(type=Lora, rank=2, dropout=0.0, quantise='nf4')
            config.model.language = dict(type=PartTuning, train='none', lora=lora)
            config.model.chat.language_model.llm_config.hidden_size = 128  # whole blocks of 64
        if case == 'preference':
            config.model = dict(config.model.to_dict(), type=PreferenceTuning)
            config.train_dataloader.dataset.type = PairedChats
            config.train_dataloader.collate_fn = dict(type=collate_preferences)
    elif case == 'segmentation':
        from tests.test_engine.segmentation_processes import config_for as segmentation

        config = segmentation('single', work_dir, work_dir.parents[1] / 'scenes', processes=processes)
    else:
        config = task_config(case, work_dir, processes=processes)
    optimizer = dict(type=SGD, lr=0.01, momentum=0.9)
    config.optim_wrapper = dict(type=OptimWrapper, optimizer=optimizer, clip_grad=dict(max_norm=1.0))
    config.param_scheduler = []
    config.val_benchmarks = []
    config.launcher = 'none' if processes == 1 else 'pytorch'
    config.strategy = load_config(f'_base_/strategies/{strategy}.py').strategy
    config.merge_from_dict(dict(changes, work_dir=str(work_dir)))
    return config


def main(folder: Path, names: list[str]) -> None:
    """Train each case with each strategy, ``case-strategy``, and save; then go on."""
    from mmengine.dist import all_gather_object

    from tests.test_engine.tiny import SaveAt
    from tests.test_engine.two_processes import train

    for name in names:
        case, _, strategy = name.partition('-')
        options = dict(trainable_only=True) if case == 'lora' else {}
        try:
            losses, runner = train(config_for(case, strategy, folder / name), SaveAt(STEPS, **options))
        except ConfigError as error:
            told = all_gather_object(str(error))
            if get_rank() == 0:
                (folder / f'{name}.json').write_text(json.dumps(dict(told=told)))
            continue
        empty = all_gather_object(runner.strategy._is_empty)
        reasons = all_gather_object(runner.strategy._why_whole)
        random = all_gather_object(hash_settings(torch.get_rng_state().tolist()))
        tensors = runner.strategy.model_state_dict()
        metrics = runner.test() if case in ('classification', 'averaged') else {}
        goes_on = config_for(case, strategy, folder / name, resume=True)
        more, _ = train(goes_on, SaveAt(2 * STEPS)) if case != 'segmentation' else ([], None)
        if get_rank() == 0:
            save_file(
                {key: t.contiguous().clone() for key, t in tensors.items()}, folder / f'{name}.safetensors'
            )
            result = dict(losses=losses + more, empty=empty, why=reasons[-1], metrics=metrics, random=random)
            (folder / f'{name}.json').write_text(json.dumps(result))


if __name__ == '__main__':
    main(Path(sys.argv[1]), sys.argv[2:])
