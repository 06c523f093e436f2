"""Plans against what a real model of middle size keeps."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from torch.optim import AdamW

from internvl_mm.engine.config import load_config
from internvl_mm.engine.hooks import EMAHook
from internvl_mm.engine.memory import SavedBytes, Sharing
from internvl_mm.engine.memory_plan import logits_bytes, read_sizes, read_towers
from internvl_mm.registry import MODELS
from internvl_mm.structures import ImageSample
from internvl_mm.utils.errors import ConfigError
from tests.test_engine.tiny import tiny_config, tiny_model

IMAGES, WIDTH, DEPTH = 8, 128, 6


def config(**backbone: object) -> Config:
    model = tiny_model(width=WIDTH, depth=DEPTH, drop_path=0.0)
    model['backbone'].update(image_size=112, **backbone)
    settings = tiny_config('unused', model=model)
    settings['train_dataloader']['batch_size'] = IMAGES
    return Config(settings)


def trained(cfg: Config) -> tuple[torch.nn.Module, int, AdamW]:
    """The real model after one step, and the bytes autograd kept for it."""
    task = MODELS.build(cfg.model)
    optimizer = AdamW(task.parameters())
    samples = [ImageSample.labelled(i % 3, dataset='tiny', index=i) for i in range(IMAGES)]
    images = [torch.randint(256, (3, 112, 112), dtype=torch.uint8) for _ in range(IMAGES)]
    batch = task.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    with SavedBytes(task) as saved:
        losses = task(**batch, mode='loss')
    losses['loss'].backward()
    optimizer.step()
    return task, saved.total, optimizer


def test_predictions_are_within_a_tenth_of_what_is_measured() -> None:
    cfg = config()
    task, activations, optimizer = trained(cfg)
    plan = read_sizes(cfg, precision=None).memory(Sharing(), 1)
    assert plan.weights == sum(p.nbytes for p in task.parameters())
    assert plan.gradients == sum(p.grad.nbytes for p in task.parameters())
    moments = [t for kept in optimizer.state.values() for t in kept.values() if t.ndim]
    assert plan.optimizer == sum(t.nbytes for t in moments)
    assert plan.activations == pytest.approx(activations, rel=0.1)


def test_recomputation_keeps_inputs_and_one_block() -> None:
    whole, less = (
        read_towers(config(gradient_checkpointing=on), precision=None)[1][0] for on in (False, True)
    )
    assert less.input_bytes == IMAGES * 65 * WIDTH * 4  # 64 patches and the class token
    assert less.activations == DEPTH * less.input_bytes + less.block_bytes
    assert whole.activations == DEPTH * whole.block_bytes


def test_averages_of_the_weights_are_counted() -> None:
    cfg = load_config('quickstart/finetune_intern_vit_tiny_digits.py')
    assert read_sizes(cfg).averaged == 0
    cfg.custom_hooks = [dict(type=EMAHook)]
    sizes = read_sizes(cfg)
    assert sizes.averaged == 4 * sizes.trainable
    cfg = load_config(cfg.filename, ['default_hooks.ema.type=EMAHook', 'default_hooks.pictures=None'])
    assert read_sizes(cfg).averaged == sizes.averaged


def test_chat_models_are_planned_at_their_longest_row() -> None:
    cfg = load_config('chat/finetune_internvl2_1b.py')
    task, (vision, text) = read_towers(cfg)
    assert not vision.trains and vision.activations == 0  # frozen
    assert (text.blocks, text.recomputed) == (24, True)
    batch = cfg.train_dataloader.batch_size
    assert text.input_bytes == 4 * batch * 4096 * 896
    sizes = read_sizes(cfg)
    # 0.49 B of the language model, 0.30 B of the vision tower.
    assert sizes.values == pytest.approx(0.94e9, rel=0.02)
    assert logits_bytes(task) == 2 * 4 * 1024 * task.chat.language_model.config.vocab_size
    assert sizes.activations == text.activations + logits_bytes(task)


def test_what_cannot_be_planned_is_refused() -> None:
    cfg = config()
    cfg.model = dict(type='torch.nn.Linear', in_features=1, out_features=1)
    with pytest.raises(ConfigError, match='Linear cannot be planned.*--dry-run'):
        read_sizes(cfg)
    # A decoder keeps more than the backbone: a plan without it would be far too low.
    with pytest.raises(ConfigError, match='Segmenter cannot be planned.*--dry-run'):
        read_sizes(load_config('quickstart/seg_upernet_full_intern_vit_tiny_digits.py'))
    with pytest.raises(ConfigError, match='longest row: set encoder.max_length.*--dry-run'):
        read_sizes(load_config('quickstart/chat_pretrain_intern_vit_tiny_digits.py'))
    with pytest.raises(ConfigError, match='no optim_wrapper: it trains nothing'):
        read_sizes(load_config('quickstart/knn_intern_vit_tiny_digits.py'))


def test_the_door_prints_a_table_and_how_it_was_computed(capsys: pytest.CaptureFixture) -> None:
    from tools.plan import main

    assert main(['classification/finetune_intern_vit_300m_448px_in1k_448.py', '--gpus', '2', '4']) == 0
    told = capsys.readouterr().out
    assert 'zero3' in told and 'weights 4·P' in told
    assert main(['no_such_config.py']) == 2
    with pytest.raises(SystemExit):
        main(['no_such_config.py', '--gpus', '0'])
    assert 'each is at least 1' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--cfg-options', 'model.backbone.hidden_sise=3'], "Did you mean 'hidden_size'?"),
        (['--cfg-options', 'train_cfg.max_epoch=3'], "Did you mean 'max_epochs'?"),
        (
            ['--cfg-options', 'optim_wrapper.optimizer.foreach=True', 'optim_wrapper.optimizer.fused=True'],
            'optim_wrapper.optimizer: `fused` and `foreach` cannot be `True` together',
        ),
    ],
)
def test_a_plan_of_wrong_settings_is_a_mistake(arguments: list[str], message: str, capsys) -> None:
    from tools.plan import main

    assert main(['quickstart/finetune_intern_vit_tiny_digits.py', *arguments]) == 2
    assert message in ' '.join(capsys.readouterr().err.split())


def test_a_gpu_without_memory_is_refused(capsys) -> None:
    from tools.plan import main

    with pytest.raises(SystemExit):
        main(['quickstart/finetune_intern_vit_tiny_digits.py', '--memory', '-5'])
    assert 'a GPU has more than 0 GiB' in capsys.readouterr().err
