"""Configs of retrieval fine-tuning: the published recipe, and the same test data as zero-shot evaluation."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from internvl_mm.engine.config import load_config
from internvl_mm.engine.optim import CosineAfterSteps


def load(name: str) -> Config:
    return load_config(name, [])


@pytest.mark.parametrize(
    ('name', 'epochs', 'size'),
    [('flickr30k_364px', 10, 364), ('flickr30k_cn_364px', 10, 364), ('coco_364px', 5, 364),
     ('flickr30k_head_224px', 10, 224), ('flickr30k_lora_224px', 10, 224)],
)  # fmt: skip
def test_the_schedule_is_the_published_one(name: str, epochs: int, size: int) -> None:
    cfg = load(f'pretrain/retrieval_internvl_14b_{name}')
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (1e-6, 0.05)
    # The norm transformers' trainer asks of DeepSpeed when a script says nothing.
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=1.0)
    [schedule] = cfg.param_scheduler
    assert (schedule.type, schedule.warmup, schedule.end) == (CosineAfterSteps, 100, epochs)
    assert schedule.by_epoch and schedule.convert_to_iter_based and cfg.train_cfg.max_epochs == epochs
    assert cfg.train_dataloader.batch_size == 32
    assert cfg.train_dataloader.dataset.transform[0]['size'] == size
    [benchmark] = cfg.benchmarks.values()
    assert benchmark.dataloader.dataset.transform[0]['size'] == size


@pytest.mark.parametrize('name', ['flickr30k', 'flickr30k_cn', 'coco'])
def test_fine_tuning_is_evaluated_on_the_files_of_zero_shot_retrieval(name: str) -> None:
    tuned = load(f'pretrain/retrieval_internvl_14b_{name}_364px').benchmarks
    plain = load(f'zero_shot/{name}').benchmarks[name].dataloader.dataset
    dataset = tuned[name].dataloader.dataset
    assert (dataset.name, dataset.root, dataset.file) == (plain.name, plain.root, plain.file)
    assert dataset.caption_transform == plain.caption_transform
