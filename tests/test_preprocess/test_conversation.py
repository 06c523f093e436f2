"""Prompts of the templates, character for character."""

from __future__ import annotations

import pytest

from internvl_mm.preprocess.conversation import (
    CHAT_TEMPLATES,
    INTERNVL2_SYSTEM,
    VICUNA_SYSTEM,
    chat_template,
)
from internvl_mm.utils.errors import ConfigError

TURNS = [('Q1', 'A1'), ('Q2', None)]


@pytest.mark.parametrize(
    ('name', 'prompt'),
    [
        (
            'internlm2-chat',
            '<|im_start|>system\nS<|im_end|><|im_start|>user\nQ1<|im_end|><|im_start|>assistant\nA1<|im_end|>'
            '<|im_start|>user\nQ2<|im_end|><|im_start|>assistant\n',
        ),
        (
            'internvl2_5',
            '<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n'
            '<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n',
        ),
        (
            'phi3-chat',
            '<|system|>\nS<|end|><|user|>\nQ1<|end|><|assistant|>\nA1<|end|><|user|>\nQ2<|end|><|assistant|>\n',
        ),
        ('internvl_zh', 'S <human>: Q1 <bot>: A1</s><human>: Q2 <bot>:'),
        ('vicuna_v1', 'S USER: Q1 ASSISTANT: A1</s>USER: Q2 ASSISTANT:'),
        ('plain', 'SQ1\nA1\nQ2\n'),
        ('llava_llama_2', '[INST] <<SYS>>\nS\n<</SYS>>\n\nQ1 [/INST] A1 </s><s>[INST] Q2 [/INST]'),
        (
            'Llama-3',
            '<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nQ1'
            '<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|><|start_header_id|>user'
            '<|end_header_id|>\n\nQ2<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n',
        ),
    ],
)
def test_prompts(name: str, prompt: str) -> None:
    assert chat_template(name).render(TURNS, 'S') == prompt
    assert ''.join(piece.text for piece in chat_template(name).pieces(TURNS, 'S')) == prompt


def test_own_system_messages_come_first_and_the_empty_one_counts() -> None:
    assert chat_template('internvl_zh').render([('Q', None)]) == ' <human>: Q <bot>:'
    assert chat_template('vicuna_v1').render([('Q', None)]) == f'{VICUNA_SYSTEM} USER: Q ASSISTANT:'
    hermes = chat_template('Hermes-2')
    assert hermes.render([('Q', None)]).startswith(f'<|im_start|>system\n{INTERNVL2_SYSTEM}<|im_end|>')
    assert hermes.render([('Q', None)], '').startswith('<|im_start|>system\n<|im_end|>')


@pytest.mark.parametrize(
    ('name', 'prompt'),
    [
        (
            'phi3-chat',
            '<|system|>\nS<|end|><|user|>\nQ1<|end|><|assistant|>\n<|user|>\n<|assistant|>\nA2<|end|><|user|>\nQ3'
            '<|end|><|assistant|>\n',
        ),
        ('internvl_zh', 'S <human>: Q1 <bot>:<human>:<bot>: A2</s><human>: Q3 <bot>:'),
    ],
)
def test_empty_messages_leave_their_role_open_as_published(name: str, prompt: str) -> None:
    assert chat_template(name).render([('Q1', ''), ('', 'A2'), ('Q3', None)], 'S') == prompt


def test_stops_are_single_tokens_and_separators_those_of_the_published_api() -> None:
    assert {name: template.stop for name, template in CHAT_TEMPLATES.items()} == {
        'Hermes-2': '<|im_end|>',
        'internlm2-chat': '<|im_end|>',
        'internvl2_5': '<|im_end|>',
        'mpt': '<|im_end|>',
        'phi3-chat': '<|end|>',
        'internvl_zh': '</s>',
        'vicuna_v1': '</s>',
        'v1': '</s>',
        'llava_v1': '</s>',
        'plain': '',
        'llava_llama_2': '</s>',
        'Llama-3': '<|eot_id|>',
    }
    assert chat_template('internvl2_5').sep == '<|im_end|>\n'
    assert chat_template('internvl_zh').sep == '</s>'


def test_mistakes_are_told() -> None:
    with pytest.raises(
        ConfigError, match=r"template='internlm2-caht' is unknown.*Did you mean 'internlm2-chat'"
    ):
        chat_template('internlm2-caht')
    with pytest.raises(ConfigError, match='the conversation is empty'):
        chat_template('plain').render([])
    with pytest.raises(ConfigError, match='turn 1 of 2 has no answer'):
        chat_template('plain').render([('Q', None), ('Q', None)])
