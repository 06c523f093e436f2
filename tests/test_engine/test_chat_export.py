"""From a training run to a folder that transformers loads and that answers as the run did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoProcessor, AutoTokenizer, InternVLForConditionalGeneration

import internvl_mm
from internvl_mm.engine.chat_export import (
    adapter_ranks,
    export_chat,
    model_card,
    published_tiling,
    take_adapters_out,
)
from internvl_mm.engine.chat_export_native import export_chat_native, native_adapters
from internvl_mm.engine.runner import Runner
from internvl_mm.models.convert.chat_native import to_native
from internvl_mm.models.language.part import LanguageModel
from internvl_mm.models.tuning import Lora, PartTuning
from internvl_mm.utils.errors import CheckpointError, ConfigError
from tests.test_models.tiny_tuning import tiny_task
from tools.convert import main as convert

from .tiny import SaveAt, StopTraining
from .tiny_chat_run import chat_config

ADAPTED = dict(type=PartTuning, train='none', lora=dict(type=Lora, rank=2))


def run(folder: Path, *, trainable_only: bool = False, config: Any = None, **parts: Any) -> tuple[Any, Path]:
    """Train three iterations and save; the task, with random adapters where it has any, and the state."""
    runner = Runner.from_cfg(config or chat_config(folder, **parts))
    runner.register_hook(_Shake())
    runner.register_hook(SaveAt(3, trainable_only=trainable_only))
    with pytest.raises(StopTraining):
        runner.train()
    return runner.strategy.task.eval(), runner.checkpoint_dir / 'iter_000003'


class _Shake(SaveAt):
    """Makes adapters differ from 0, which they nearly are after three iterations."""

    priority = 'LOW'  # before the state is written

    def __init__(self) -> None:
        super().__init__(3)

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        if runner.iter + 1 == self.iteration:
            with torch.no_grad():
                for name, parameter in runner.strategy.task.named_parameters():
                    if '.lora_B' in name:
                        parameter.add_(torch.randn(parameter.shape) * 0.1)


def prompt(task: Any) -> dict[str, torch.Tensor]:
    """A picture and a question, as tensors of the published model's forward."""
    ids = task.tokenizer('How many digits are in the image?', return_tensors='pt').input_ids
    context = torch.full((1, task.chat.num_image_token), task.chat.img_context_token_id)
    draws = torch.Generator().manual_seed(0)
    return dict(
        pixel_values=torch.randn(1, 3, 112, 112, generator=draws), input_ids=torch.cat([context, ids], dim=1)
    )


def logits_of(task: Any) -> torch.Tensor:
    with torch.no_grad():
        return task.chat(**prompt(task)).logits


def logits_of_folder(folder: Path, task: Any, *, ours: bool = False) -> torch.Tensor:
    model = internvl_mm.load_model(folder) if ours else AutoModel.from_pretrained(folder).eval()
    model.img_context_token_id = task.chat.img_context_token_id
    with torch.no_grad():
        return model(**prompt(task)).logits


@pytest.fixture(scope='module')
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    return run(tmp_path_factory.mktemp('plain'))


@pytest.fixture(scope='module')
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    return run(tmp_path_factory.mktemp('adapted'), vision=ADAPTED, language=ADAPTED)


def test_a_finetuned_model_loads_and_answers_the_same(plain: tuple[Any, Path], tmp_path: Path) -> None:
    task, state = plain
    folder = tmp_path / 'out'
    # A work_dir stands for its latest state.
    assert convert([str(state.parents[2]), str(folder), '--to', 'chat']) == 0
    assert torch.equal(logits_of_folder(folder, task), logits_of(task))
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    assert model.config.template == 'internvl2_5' and not model.config.dynamic_image_size
    pixels, settings = prompt(task)['pixel_values'], dict(max_new_tokens=5, do_sample=False)
    asked = (tokenizer, pixels, 'How many?', settings)
    assert model.chat(*asked) == task.chat.chat(task.tokenizer, *asked[1:])
    card = (folder / 'README.md').read_text('utf-8')
    assert '| iterations | 3 |' in card and '| training data | digit_chat_train |' in card
    assert 'pipeline_tag: image-text-to-text' in card and "path = 'out'" in card


def test_a_card_has_the_results_of_its_state_alone(tmp_path: Path) -> None:
    rows = [
        dict(benchmark='b', metric='m', value=value, n=9, iter=number) for value, number in ((71, 3), (92, 6))
    ]
    (tmp_path / 'results.json').write_text(json.dumps(rows))
    card = model_card(tmp_path / 'checkpoints/iter_3', {}, dict(iter=3), name='x')
    assert '| b | m | 71.00 | 9 |' in card and '92.00' not in card


@pytest.mark.parametrize('merge', [True, False])
def test_adapters_are_merged_or_kept_apart(adapted: tuple[Any, Path], tmp_path: Path, merge: bool) -> None:
    task, state = adapted
    folder = export_chat(state, tmp_path / 'out', merge=merge)
    found = logits_of_folder(folder, task, ours=True)
    torch.testing.assert_close(found, logits_of(task), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits_of_folder(folder, task), found)
    if merge:
        return
    with safe_open(folder / 'model.safetensors', 'pt') as weights:
        names = set(weights.keys())
    layer = 'language_model.base_model.model.model.layers.0.self_attn.q_proj'
    assert {f'{layer}.base_layer.weight', f'{layer}.lora_A.default.weight'} <= names


@pytest.mark.parametrize('merge', [True, False])
def test_transformers_own_layout_has_adapters_merged_or_beside_the_weights(
    adapted: tuple[Any, Path], tmp_path: Path, merge: bool
) -> None:
    task, state = adapted
    folder = tmp_path / 'native'
    options = [] if merge else ['--separate']
    assert convert([str(state.parents[2]), str(folder), '--to', 'chat-native', *options]) == 0
    assert (folder / 'adapter_model.safetensors').exists() is not merge
    model = InternVLForConditionalGeneration.from_pretrained(folder).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(**prompt(task)).logits, logits_of(task), atol=1e-5, rtol=1e-4)
        if not merge:
            model.disable_adapters()
            assert not torch.allclose(model(**prompt(task)).logits, logits_of(task), atol=1e-3)
    assert 'AutoModelForImageTextToText' in (folder / 'README.md').read_text('utf-8')
    assert AutoProcessor.from_pretrained(folder).tokenizer('What?').input_ids


@pytest.mark.parametrize('architecture', ['Qwen2ForCausalLM', 'InternLM2ForCausalLM', 'Phi3ForCausalLM'])
def test_adapters_get_transformers_names_in_every_family(architecture: str, tmp_path: Path) -> None:
    parts = dict(
        vision=PartTuning(train='none', lora=Lora(rank=2, dora=True)),
        projector=PartTuning(train='none', lora=Lora(rank=3, dora=True)),
        language=PartTuning(train='none', lora=Lora(rank=2, alpha=7, dora=True)),
    )
    task = tiny_task(architecture, **parts).eval()
    settings, tensors = native_adapters(task)
    inputs = dict(input_ids=torch.tensor([[task.chat.img_context_token_id, 101, 102, 103]]))
    inputs['pixel_values'] = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = task.chat(**inputs).logits
        take_adapters_out(task.chat, merge=False)
        task.chat.to_published().save_pretrained(tmp_path / 'published')
        native = to_native(internvl_mm.load_model(tmp_path / 'published'), task.chat.img_context_token_id)
        native.save_pretrained(tmp_path / 'native')
        settings.save_pretrained(str(tmp_path / 'native'))
        save_file(tensors, tmp_path / 'native' / 'adapter_model.safetensors', {'format': 'pt'})
        model = InternVLForConditionalGeneration.from_pretrained(tmp_path / 'native').eval()
        torch.testing.assert_close(model(**inputs).logits, expected, atol=1e-5, rtol=1e-4)


def test_adapters_peft_has_no_settings_for_are_told() -> None:
    with pytest.raises(ConfigError, match='trained no adapters'):
        native_adapters(tiny_task())
    one, other = (PartTuning(train='none', lora=Lora(rank=2, dora=dora)) for dora in (True, False))
    with pytest.raises(ConfigError, match='dora differs between them'):
        native_adapters(tiny_task(vision=one, language=other))


def test_a_state_of_trainable_parameters_takes_the_others_from_where_training_did(
    plain: tuple[Any, Path], tmp_path: Path
) -> None:
    folder = export_chat(plain[1], tmp_path / 'base')
    settings = chat_config(tmp_path / 'run').model.chat
    chat = dict(settings, pretrained=str(folder))
    task, state = run(tmp_path / 'run', trainable_only=True, chat=chat, language=ADAPTED)
    out = export_chat(state, tmp_path / 'out')
    torch.testing.assert_close(logits_of_folder(out, task), logits_of(task), atol=1e-5, rtol=1e-4)


def test_frozen_weights_that_came_with_load_from_are_found_and_others_refused(
    plain: tuple[Any, Path], tmp_path: Path
) -> None:
    config = chat_config(tmp_path / 'run', language=dict(type=PartTuning, train='none'))
    config.load_from = str(plain[1])
    task, state = run(tmp_path / 'run', config=config, trainable_only=True)
    out = export_chat(state, tmp_path / 'out')
    torch.testing.assert_close(logits_of_folder(out, task), logits_of(task), atol=1e-5, rtol=1e-4)
    # A run that began from this one leaves to the first what both left out.
    config = chat_config(tmp_path / 'next', language=dict(type=PartTuning, train='none'))
    config.load_from = str(state)
    later, second = run(tmp_path / 'next', config=config, trainable_only=True)
    out = export_chat(second, tmp_path / 'later')
    torch.testing.assert_close(logits_of_folder(out, later), logits_of(later), atol=1e-5, rtol=1e-4)
    moved = plain[1].rename(plain[1].with_name('iter_000099'))
    try:
        with pytest.raises(CheckpointError, match=r'frozen ones of this model are not those .* load_from='):
            export_chat(state, tmp_path / 'other')
    finally:
        moved.rename(plain[1])


@pytest.mark.parametrize('trainable_only', [False, True])
def test_weights_in_4_bits_are_written_as_the_plain_ones_training_computed_with(
    tmp_path: Path, trainable_only: bool
) -> None:
    chat = chat_config(tmp_path / 'base').model.chat
    chat.language_model.llm_config.hidden_size = 128  # whole blocks of 64
    folder = export_chat(run(tmp_path / 'base', chat=chat)[1], tmp_path / 'folder')
    packed = dict(ADAPTED, lora=dict(ADAPTED['lora'], quantise='nf4'))
    parts = dict(chat=dict(chat, pretrained=str(folder)), language=packed)
    task, state = run(tmp_path / 'run', trainable_only=trainable_only, **parts)
    for merge in (True, False):
        out = export_chat(state, tmp_path / f'merged_{merge}', merge=merge)
        found = logits_of_folder(out, task, ours=True)
        torch.testing.assert_close(found, logits_of(task), atol=1e-4, rtol=1e-4)
    # The rounding to 4 bits is in what was written.
    before, after = (load_file(path / 'model.safetensors') for path in (folder, tmp_path / 'merged_False'))
    value = before['language_model.model.layers.0.mlp.up_proj.weight']
    packed = after['language_model.base_model.model.model.layers.0.mlp.up_proj.base_layer.weight']
    assert 0.05 < (value - packed).abs().mean() / value.abs().mean() < 0.12


def test_angles_of_the_language_models_folder_are_kept(tmp_path: Path) -> None:
    chat = chat_config(tmp_path / 'run').model.chat.to_dict()
    model = LanguageModel(dict(chat['language_model']['llm_config'], rope_theta=77.0))
    model.save_pretrained(tmp_path / 'language')
    chat['language_model']['pretrained'] = str(tmp_path / 'language')
    task, state = run(tmp_path / 'run', chat=chat)
    out = export_chat(state, tmp_path / 'out')
    torch.testing.assert_close(logits_of_folder(out, task), logits_of(task), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ('parts', 'message'),
    [
        (dict(language=PartTuning(train='none', lora=Lora(rank=2, dora=True))), 'no place for DoRA'),
        (
            dict(projector=PartTuning(train='none', lora=Lora(rank=2))),
            'no place for adapters of the projector',
        ),
        (dict(), 'trained no adapters'),
    ],
)
def test_what_cannot_be_kept_apart_is_told(parts: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        adapter_ranks(tiny_task(**parts))


def test_queries_of_internlm2_cannot_be_kept_apart() -> None:
    language = PartTuning(train='none', lora=Lora(rank=2))
    with pytest.raises(ConfigError, match='InternLM2 keeps in one matrix'):
        adapter_ranks(tiny_task('InternLM2ForCausalLM', language=language))


def test_a_folder_that_is_in_use_is_not_written_to(plain: tuple[Any, Path], tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    for export in (export_chat, export_chat_native):
        for target in (tmp_path, tmp_path / 'file'):
            with pytest.raises(CheckpointError, match='exists: give a new name'):
                export(plain[1], target)


def test_cropped_pictures_have_no_word_in_a_published_config() -> None:
    config = Config(
        dict(
            train_dataloader=dict(
                dataset=dict(
                    encoder=dict(tiling=dict(type='internvl_mm.preprocess.tiling.CropTiling', size=28))
                )
            )
        )
    )
    with pytest.raises(ConfigError, match='encoder.tiling is CropTiling, .*Train with DynamicTiling'):
        published_tiling(config)
