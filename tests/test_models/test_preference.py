"""Preference optimisation against the published formulas."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import datasets as hf
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from internvl_mm.data.collate_prompts import collate_preferences
from internvl_mm.data.datasets.preferences import PreferenceDataset, PreferenceMixture
from internvl_mm.data.digit_scenes.chat_vocabulary import digit_chat_tokenizer
from internvl_mm.models.losses.preference import RunningMean
from internvl_mm.models.tasks.preference import PreferenceTuning
from internvl_mm.models.tuning import Lora, PartTuning
from internvl_mm.preprocess.chat import ChatEncoder
from internvl_mm.preprocess.tiling import DynamicTiling, SquashTiling
from internvl_mm.structures import IGNORE, ChatBatch, ChatSample
from internvl_mm.utils.errors import ConfigError, DataError
from tests.cases import image_bytes

from .tiny_chat import tokenizer_of
from .tiny_tuning import batch_of, chat_settings, conversation

ADAPTED = PartTuning(train='none', lora=Lora(rank=2, dropout=0.0))


def preference_task(**settings) -> PreferenceTuning:
    torch.manual_seed(0)
    options = dict(chat=chat_settings(), tokenizer=tokenizer_of())
    task = PreferenceTuning(**{**options, **settings})
    task.init_weights()
    return task


def drift(task: PreferenceTuning) -> None:
    """Change what trains, as optimiser steps do."""
    with torch.no_grad():
        for parameter in task.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)


def pairs(task: PreferenceTuning) -> list[tuple[ChatSample, ChatSample]]:
    """Two questions about a picture, each with two answers of different lengths."""
    found = []
    for number in range(2):
        chosen = conversation(task, number, length=9)
        ids = torch.cat([chosen.input_ids[:6], torch.tensor([5, 6 + number])])
        labels = torch.where(torch.arange(8) < 5, IGNORE, ids)
        found.append((chosen, replace(chosen, input_ids=ids, labels=labels)))
    return found


def batch(task: PreferenceTuning) -> ChatBatch:
    made = collate_preferences([dict(inputs=list(pair)) for pair in pairs(task)])['inputs']
    return replace(made, tiles=made.tiles.float() / 255 - 0.5)


def summed(task: PreferenceTuning, sample: ChatSample) -> Tensor:
    """Summed log-probability of an answer, computed alone and with all logits."""
    logits = functional.linear(task.hidden_states(batch_of(sample)), task.chat.language_model.lm_head.weight)
    return -functional.cross_entropy(logits[0, :-1], sample.labels[1:], ignore_index=IGNORE, reduction='sum')


@pytest.mark.parametrize('settings', [dict(), dict(language=ADAPTED, projector=PartTuning(train='none'))])
def test_losses_are_the_published_formulas(settings: dict) -> None:
    task = preference_task(losses=dict(sigmoid=0.8, bco_pair=0.2), rpo_alpha=1.0, **settings).eval()
    assert hasattr(task, 'reference') == (not settings)
    reference = copy.deepcopy(task)
    drift(task)
    chosen, rejected = (
        torch.stack(
            [0.1 * (summed(task, pair[side]) - summed(reference, pair[side])) for pair in pairs(task)]
        )
        for side in range(2)
    )
    shift = torch.cat([chosen, rejected]).mean().detach()
    sigmoid = -functional.logsigmoid(chosen - rejected)
    bco = -functional.logsigmoid(chosen - shift) - functional.logsigmoid(-(rejected - shift))
    labels = sum(int((pair[0].labels[1:] != IGNORE).sum()) for pair in pairs(task))
    nll = -sum(summed(task, pair[0]) for pair in pairs(task)) / labels
    found = task.loss(batch(task), [])
    torch.testing.assert_close(found['loss'], (0.8 * sigmoid + 0.2 * bco).mean() + nll, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found['sigmoid'], sigmoid.mean(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found['chosen_nll'], nll)
    assert found['reward_accuracy'] == (chosen > rejected).float().mean()


@pytest.mark.parametrize('settings', [dict(), dict(language=ADAPTED, projector=PartTuning(train='none'))])
def test_only_the_policy_gets_gradients(settings: dict) -> None:
    task = preference_task(**settings).train()
    trains = {name for name, parameter in task.named_parameters() if parameter.requires_grad}
    task.loss(batch(task), [])['loss'].backward()
    assert {name for name, parameter in task.named_parameters() if parameter.grad is not None} == trains
    assert not any(name.startswith('reference') for name in trains)
    # At the beginning both are equal: half of the probability each.
    assert task.eval().loss(batch(task), [])['sigmoid'] == pytest.approx(0.6931, abs=1e-3)


def test_the_running_mean_weighs_batches_alike_and_is_part_of_the_state() -> None:
    running = RunningMean()
    assert [float(running.update(torch.tensor(values))) for values in ([1.0, 3.0], [5.0])] == [2.0, 3.5]
    again = RunningMean()
    again.load_state_dict(running.state_dict())
    assert again.update(torch.tensor([2.0])) == pytest.approx(3.0)


def test_unknown_losses_are_told() -> None:
    with pytest.raises(ConfigError, match=r"losses names 'sigmoids'; .*Did you mean 'sigmoid'"):
        preference_task(losses=dict(sigmoids=1.0))


def test_pairs_share_their_tiles(tmp_path: Path) -> None:
    (tmp_path / 'a.png').write_bytes(image_bytes())
    line = dict(image='a.png', question='How many?', chosen='two', rejected='five of them')
    (tmp_path / 'p.jsonl').write_text(
        json.dumps(line) + '\n' + json.dumps(dict(question='?', chosen='a')) + '\n'
    )
    encoder = ChatEncoder(digit_chat_tokenizer(), 'internvl2_5', tokens_per_tile=1, tiling=SquashTiling(28))
    dataset = PreferenceDataset(str(tmp_path / 'p.jsonl'), encoder, root=str(tmp_path))
    made = collate_preferences([dataset[0], dataset[0]])
    assert made['inputs'].input_ids.shape[0] == 4 and len(made['inputs'].tiles) == 2
    assert made['inputs'].num_tiles.tolist() == [1, 1, 0, 0]
    learned = made['inputs'].labels
    assert [encoder.tokenizer.decode(row[row != IGNORE]) for row in learned[::2]] == [
        'two<|im_end|>',
        'five of them<|im_end|>',
    ]
    with pytest.raises(DataError, match=r'p\.jsonl:2: needs question, chosen and rejected as texts'):
        dataset[1]


def test_preferences_of_a_table(tmp_path: Path) -> None:
    row = dict(
        image=dict(bytes=image_bytes(size=(60, 30))), question='How many?', chosen='two', rejected='five'
    )
    table = hf.Dataset.from_list([row])
    table.cast_column('image', hf.Image()).to_parquet(tmp_path / 'p.parquet')
    encoder = ChatEncoder(digit_chat_tokenizer(), 'internvl2_5', tokens_per_tile=1, tiling=SquashTiling(28))
    chosen, rejected = PreferenceDataset(str(tmp_path / 'p.parquet'), encoder)[0]['inputs']
    assert torch.equal(chosen.tiles, rejected.tiles) and chosen.path.endswith('p.parquet[0]')
    answers = [encoder.tokenizer.decode(pair.input_ids[pair.labels != IGNORE]) for pair in (chosen, rejected)]
    assert [answer.strip().startswith(text) for answer, text in zip(answers, ('two', 'five'))] == [True, True]


def test_preferences_of_a_meta_file(tmp_path: Path) -> None:
    (tmp_path / 'a.png').write_bytes(image_bytes(size=(60, 30)))
    lines = [dict(image='a.png', question=f'{n}?', chosen='two', rejected='five of them') for n in range(20)]
    (tmp_path / 'p.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    entry = dict(root='.', annotation='p.jsonl', data_augment=False)
    meta = dict(
        half={**entry, 'repeat_time': 0.5},
        twice={**entry, 'repeat_time': 2, 'max_dynamic_patch': 1},
        all=entry,
    )
    (tmp_path / 'meta.json').write_text(json.dumps(meta))
    encoder = ChatEncoder(
        digit_chat_tokenizer(), 'internvl2_5', tokens_per_tile=1, tiling=DynamicTiling(4, size=28)
    )
    mixture = PreferenceMixture(str(tmp_path / 'meta.json'), encoder, caps=dict(all=3))
    assert mixture.counts == dict(half=10, twice=40, all=3)
    # A random share, always the same, where conversations take the head of the file.
    rows = [mixture.locate(index)[1] for index in range(10)]
    assert rows == sorted(set(rows)) and rows != list(range(10))
    assert rows == [
        PreferenceMixture(str(tmp_path / 'meta.json'), encoder).locate(index)[1] for index in range(10)
    ]
    chosen, rejected = mixture[10]['inputs']
    assert chosen.dataset == 'twice' and len(chosen.tiles) == 1 < len(mixture[0]['inputs'][0].tiles)
    assert torch.equal(chosen.tiles, rejected.tiles)
    assert mixture.path(10) == f'{tmp_path}/p.jsonl:1'
    # Planned with the longer answer.
    assert mixture.datasets[1].measure(0) == (len(rejected), 1) and len(rejected) > len(chosen)
