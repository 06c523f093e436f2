"""Fine-tuning of chat models: what trains, losses against their formulas, packing, adapters, answers."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from internvl_mm.models.chat import token_loss
from internvl_mm.models.tasks.chat_tuning import ChatTuning, next_tokens, token_weights, trainable
from internvl_mm.models.tuning import Lora, PartTuning
from internvl_mm.structures import IGNORE
from internvl_mm.utils.errors import ConfigError, DataError

from .tiny_chat import FAMILY_CASES, LANGUAGE, tokenizer_of
from .tiny_tuning import batch_of, chat_settings, conversation, tiny_task

ALL = PartTuning()


@pytest.fixture(scope='module')
def task() -> ChatTuning:
    return tiny_task(vision=ALL).eval()


def three(task: ChatTuning):
    """Two with pictures, one of text; different numbers of labels."""
    sizes = [(1, 9), (2, 14), (0, 5)]
    return [conversation(task, n, tiles=tiles, length=length) for n, (tiles, length) in enumerate(sizes)]


# ---- losses


@pytest.mark.parametrize(('reduction', 'power'), [('token', 0), ('sample', -1), ('square', -0.5)])
def test_loss_is_the_published_formula(task: ChatTuning, reduction: str, power: float) -> None:
    samples = three(task)
    task.reduction = reduction
    ours = task.loss(batch_of(*samples), [])['loss']
    total = norm = 0.0
    for sample in samples:
        hidden = task.hidden_states(batch_of(sample))
        logits = functional.linear(hidden, task.chat.language_model.lm_head.weight)[0]
        targets = sample.labels[1:]
        losses = functional.cross_entropy(logits[:-1], targets, ignore_index=IGNORE, reduction='none')
        weight = int((sample.labels != IGNORE).sum()) ** power
        total, norm = total + weight * losses.sum(), norm + weight * (targets != IGNORE).sum()
    task.reduction = 'token'
    torch.testing.assert_close(ours, total / norm)


def test_loss_is_that_of_the_published_forward(task: ChatTuning) -> None:
    batch = batch_of(*three(task)[:2])
    logits = task.chat.language_model.lm_head(task.hidden_states(batch))
    torch.testing.assert_close(task.loss(batch, [])['loss'], token_loss(logits, batch.labels))


def test_gathered_norm_divides_by_the_mean_of_all_processes(
    task: ChatTuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(*three(task))
    own = task.loss(batch, [])['loss']
    norm = float((next_tokens(batch) != IGNORE).sum())
    monkeypatch.setattr(task, 'all_gather', True)
    # The other process had 10 weights more.
    monkeypatch.setattr(
        'internvl_mm.models.tasks.chat_tuning.all_reduce', lambda value, op: value.add_(5) and None
    )
    torch.testing.assert_close(task.loss(batch, [])['loss'], own * norm / (norm + 5))


def test_weights_count_labels_before_the_shift(task: ChatTuning) -> None:
    sample = conversation(task, 0, length=8)  # 4 labels
    batch = batch_of(sample, conversation(task, 1, length=18), packed=True)  # and 9
    assert batch.label_counts.tolist() == [4, 9]
    weights = token_weights(batch, 'square')[0]
    assert weights[: len(sample)].unique().tolist() == [0.5]
    assert weights[len(sample) :].unique().tolist() == pytest.approx([1 / 3])


def test_a_sample_without_labels_is_named(task: ChatTuning) -> None:
    sample = conversation(task, 7)
    batch = batch_of(conversation(task, 1), replace(sample, labels=torch.full_like(sample.labels, IGNORE)))
    with pytest.raises(
        DataError, match=r'1 of 2 samples .* no token to learn.*tiny\[7\] \(tiny:7\).*check_data'
    ):
        task.loss(batch, [conversation(task, 1), sample])


# ---- packing


@pytest.mark.parametrize('architecture', FAMILY_CASES)
@pytest.mark.parametrize('length', [None, 64])
def test_packed_samples_have_the_loss_and_gradients_they_have_alone(
    architecture: str, length: int | None
) -> None:
    task = tiny_task(architecture, vision=ALL, reduction='square').eval()
    samples = three(task)
    found = []
    for batch in (batch_of(*samples), batch_of(*samples, packed=True, length=length)):
        loss = task.loss(batch, samples)['loss']
        task.zero_grad()
        loss.backward()
        found.append((loss, {n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}))
    assert abs(found[0][0] - found[1][0]) < 1e-5
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, atol=1e-5, rtol=1e-4)


def test_packed_rows_with_a_kernel_that_would_mix_samples_are_refused(task: ChatTuning) -> None:
    task.chat.language_model.set_attn_implementation('eager')
    try:
        with pytest.raises(
            ConfigError, match="packed batches need the attention kernel 'packed'.*has 'eager'"
        ):
            task.loss(batch_of(*three(task), packed=True), [])
    finally:
        task.chat.language_model.set_attn_implementation('packed')


def test_text_alone_runs_the_vision_tower(task: ChatTuning) -> None:
    batch = batch_of(conversation(task, 3, tiles=0))
    task.zero_grad()
    loss = task.loss(batch, [])['loss']
    loss.backward()
    gradients = [parameter.grad for parameter in task.chat.vision_model.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
    embeddings = task.chat.language_model.get_input_embeddings()(batch.input_ids)
    logits = task.chat.language_model(inputs_embeds=embeddings).logits
    torch.testing.assert_close(loss, token_loss(logits, batch.labels))


# ---- what trains


def test_parts_are_frozen_and_unfrozen() -> None:
    task = tiny_task(vision=PartTuning(train=1), projector=PartTuning(train='none'))
    names = trainable(task.chat)
    assert all(name.startswith(('vision_model.encoder.layers.2.', 'language_model.')) for name in names)
    assert sum(name.startswith('vision_model.encoder.layers.2.') for name in names) == sum(
        name.startswith('vision_model.encoder.layers.0.') for name, _ in task.chat.named_parameters()
    )
    assert all(
        not name.startswith('vision_model') for name in trainable(tiny_task().chat)
    )  # nothing by default


def test_a_frozen_vision_tower_stays_in_evaluation_mode() -> None:
    assert not tiny_task().train().chat.vision_model.training
    assert tiny_task(vision=PartTuning(train=1)).train().chat.vision_model.training


@pytest.mark.parametrize('part', ['vision', 'projector', 'language'])
@pytest.mark.parametrize('dora', [False, True])
def test_adapters_train_and_nothing_else(part: str, dora: bool) -> None:
    frozen = {name: PartTuning(train='none') for name in ('vision', 'projector', 'language')}
    lora = PartTuning(train='none', lora=Lora(rank=2, dora=dora))
    task = tiny_task(**{**frozen, part: lora})
    names = trainable(task)
    assert names and all('.lora_' in name for name in names)
    task.loss(batch_of(conversation(task, 0)), [])['loss'].backward()
    assert {name for name, p in task.named_parameters() if p.grad is not None} == set(names)


def test_adapters_go_to_the_published_layers_with_the_published_scale() -> None:
    lora = PartTuning(train='none', lora=Lora(rank=4))
    task = tiny_task(vision=lora, language=lora)
    names = {name.split('.lora_')[0].split('.', 3)[-1] for name in trainable(task.chat.vision_model)}
    assert names == {'attn.qkv', 'attn.proj', 'mlp.fc1', 'mlp.fc2'}
    assert (
        len([name for name in trainable(task.chat.language_model) if 'lora_A' in name]) == 2 * 7
    )  # blocks × layers
    assert {
        layer.scaling['default']
        for layer in task.chat.language_model.modules()
        if hasattr(layer, 'scaling')
        if isinstance(layer.scaling, dict)
    } == {2.0}


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (PartTuning(train=9), r'train=9: a number of blocks from the end, of which there are 3'),
        (PartTuning(lora=Lora()), r"lora beside train='all': adapters belong to frozen weights"),
        (PartTuning(train='none', lora=Lora(targets=('attn.query',))), r"no linear layer .* 'attn.query'"),
    ],
)
def test_impossible_settings_are_told(settings: PartTuning, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_task(vision=settings)


def test_packed_weights_without_their_library_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules, 'internvl_mm.models.layers.four_bit', None
    )  # as if it could not be imported
    with pytest.raises(ConfigError, match=r'needs bitsandbytes: pip install bitsandbytes'):
        tiny_task(vision=PartTuning(train='none', lora=Lora(quantise='nf4')))


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        part = PartTuning(checkpointing=checkpointing)
        task = tiny_task(vision=part, language=part).train()
        task.loss(batch_of(*three(task)), [])['loss'].backward()
        gradients.append({name: parameter.grad for name, parameter in task.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


# ---- what fits


def test_vocabulary_and_template_have_to_fit() -> None:
    small = chat_settings()
    small['language_model'] = dict(
        small['language_model'], llm_config=dict(LANGUAGE, architectures=['Qwen2ForCausalLM'], vocab_size=99)
    )
    with pytest.raises(ConfigError, match=r'vocab_size=99: set model.chat.language_model'):
        tiny_task(chat=small)
    with pytest.raises(ConfigError, match=r"template='internvl2_5' writes .* is no token of this tokenizer"):
        tiny_task(tokenizer=tokenizer_of('Phi3ForCausalLM'))
    with pytest.raises(ConfigError, match='model.chat has no template'):
        tiny_task(chat=dict(chat_settings(), template=None))


def test_data_has_to_be_encoded_as_the_model_reads_it(task: ChatTuning) -> None:
    task.check_data(dict(name='train'))
    message = task.chat.system_message
    facts = dict(template='internvl2_5', tokens_per_tile=task.chat.num_image_token, system_message=message)
    task.check_data(dict(name='train', encoder=facts))
    with pytest.raises(DataError, match=r'train is encoded with tokens_per_tile=256, the model has 1'):
        task.check_data(dict(name='train', encoder=dict(facts, tokens_per_tile=256)))
    with pytest.raises(DataError, match=r"template='phi3-chat', the model has 'internvl2_5'"):
        task.check_data(dict(name='train', encoder=dict(facts, template='phi3-chat')))
    with pytest.raises(
        DataError, match=rf"system_message='', the model has '{message}': .* the same system_message"
    ):
        task.check_data(dict(name='train', encoder=dict(facts, system_message='')))


# ---- answers


def test_answers_do_not_depend_on_the_batch(task: ChatTuning) -> None:
    samples = [conversation(task, n, tiles=n % 3, length=5 + n) for n in range(4)]
    answers = []
    for batches in ([samples], [[sample] for sample in samples]):
        found = []
        for part in batches:
            holders = [SimpleNamespace() for _ in part]
            found += [holder.pred_answer for holder in task.predict(batch_of(*part), holders)]
        answers.append(found)
    assert answers[0] == answers[1]
    assert len(set(answers[0])) > 1
