"""Configs of the first two stages and of retrieval: published recipes, and the test data of zero-shot evaluation."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from internvl_mm.engine.config import load_config
from internvl_mm.engine.optim import CosineAfterSteps
from internvl_mm.engine.part_rates import PartRates


def load(name: str) -> Config:
    return load_config(name, [])


def test_the_contrastive_stage_is_the_published_one() -> None:
    """Table 20 of the paper."""
    cfg = load('pretrain/contrastive_internvl_c_224px')
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, tuple(optimizer.betas), optimizer.weight_decay) == (1e-3, (0.9, 0.95), 0.1)
    assert cfg.optim_wrapper.constructor is PartRates
    assert cfg.optim_wrapper.paramwise_cfg == dict(lr_mult=dict(text_encoder=0.1)), '1e-4 for the text'
    [schedule] = cfg.param_scheduler
    assert (schedule.warmup, schedule.end, cfg.train_cfg.max_iters) == (5000, 175_000, 175_000)
    assert tuple(cfg.model.backbone.drop_path_rate) == (0.2,) * 48
    assert 163_000 < 640 * cfg.train_dataloader.batch_size < 165_000


def test_the_generative_stage_is_the_published_one() -> None:
    """Table 20 of the paper."""
    cfg = load('pretrain/generative_internvl_14b_224px')
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, tuple(optimizer.betas), optimizer.weight_decay) == (5e-5, (0.9, 0.98), 0.05)
    [schedule] = cfg.param_scheduler
    assert (schedule.warmup, schedule.end, cfg.train_cfg.max_iters) == (2000, 80_000, 80_000)
    assert 20_000 < 160 * cfg.train_dataloader.batch_size < 21_000


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
