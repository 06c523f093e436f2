"""Chatting as the model cards show it: history, images, batches, streams, threads."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, TextIteratorStreamer
from transformers.generation.streamers import BaseStreamer

from internvl_mm.models.chat_prompt import build_prompt, expand_images
from internvl_mm.models.hf_internvl_chat import InternVLChatModel
from internvl_mm.preprocess.conversation import chat_template
from internvl_mm.utils.errors import ConfigError, DataError
from tests.test_models.tiny_chat import FAMILY_CASES, GREEDY, pixels, tiny_model, tokenizer_of


@pytest.fixture(scope='module')
def model() -> InternVLChatModel:
    return tiny_model()


@pytest.fixture(scope='module')
def tokenizer():
    return tokenizer_of()


def by_hand(model, tokenizer, turns, tiles, tiles_of_images) -> str:
    """The published steps written out: render, expand, tokenise whole, generate, decode, cut, strip."""
    prompt = model.conv_template.render(turns, model.system_message)
    for count in tiles_of_images:
        image = '<img>' + '<IMG_CONTEXT>' * (model.num_image_token * count) + '</img>'
        prompt = prompt.replace('<image>', image, 1)
    inputs = tokenizer(prompt, return_tensors='pt')
    model.img_context_token_id = tokenizer.convert_tokens_to_ids('<IMG_CONTEXT>')
    sep = model.conv_template.sep.strip()
    settings = {**GREEDY, 'eos_token_id': tokenizer.convert_tokens_to_ids(sep)}
    output = model.generate(
        pixel_values=tiles, input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, **settings
    )
    return tokenizer.clean_up_tokenization(
        tokenizer.batch_decode(output, skip_special_tokens=True)[0].split(sep)[0]
    ).strip()


@pytest.mark.parametrize('architecture', FAMILY_CASES)
def test_a_conversation_in_every_family(architecture: str) -> None:
    model, tokenizer = tiny_model(architecture), tokenizer_of(architecture)
    first, history = model.chat(tokenizer, pixels(2), 'What is it?', GREEDY, return_history=True)
    assert history == [('<image>\nWhat is it?', first)]
    second, longer = model.chat(
        tokenizer, pixels(2), 'And then?', GREEDY, history=history, return_history=True
    )
    assert longer == [*history, ('And then?', second)]
    assert len(history) == 1, "the caller's list stays as it is"
    assert first == by_hand(model, tokenizer, [('<image>\nWhat is it?', None)], pixels(2), [2])
    turns = [('<image>\nWhat is it?', first), ('And then?', None)]
    assert second == by_hand(model, tokenizer, turns, pixels(2), [2])
    alone = model.chat(tokenizer, None, 'Hello, who are you?', GREEDY)
    assert alone == by_hand(model, tokenizer, [('Hello, who are you?', None)], None, [])


def test_several_images_apart_and_together(model, tokenizer) -> None:
    question = 'Image-1: <image>\nImage-2: <image>\nCompare.'
    apart = model.chat(tokenizer, pixels(), question, GREEDY, num_patches_list=[1, 2])
    assert apart == by_hand(model, tokenizer, [(question, None)], pixels(), [1, 2])
    together = model.chat(tokenizer, pixels(), '<image>\nCompare.', GREEDY)
    assert together == by_hand(model, tokenizer, [('<image>\nCompare.', None)], pixels(), [3])


def test_nothing_the_caller_gives_is_changed(model, tokenizer) -> None:
    settings, history = dict(GREEDY), [('Hello', 'Hi')]
    model.chat(tokenizer, None, 'Go on', settings, history=history)
    model.batch_chat(tokenizer, None, ['a', 'b'], settings)
    assert settings == GREEDY and history == [('Hello', 'Hi')]


def test_a_batch_answers_as_one_by_one(model, tokenizer) -> None:
    questions = [
        'Short?',
        '<image>\nA rather longer question, for padding?',
        'Image-1: <image> <image>\nBoth?',
        'Text',
    ]
    tiles, given = [[1], [2], [1, 2], []], pixels(6)
    answers = model.batch_chat(tokenizer, given, questions, GREEDY, num_patches_list=tiles)
    spans = [given[:1], given[1:3], given[3:6], None]
    alone = [
        model.chat(tokenizer, span, question, GREEDY, num_patches_list=counts)
        for span, question, counts in zip(spans, questions, tiles, strict=True)
    ]
    assert answers == alone
    assert tokenizer.padding_side == tokenizer_of().padding_side, "the caller's tokenizer stays as it is"
    first_two = model.batch_chat(tokenizer, given[:3], questions[:2], GREEDY, num_patches_list=[1, 2])
    assert first_two == answers[:2] == model.batch_chat(
        tokenizer, given[:3], questions[:2], GREEDY, image_counts=[1, 2]
    )  # fmt: skip
    assert model.batch_chat(tokenizer, None, ['Text'], GREEDY) == answers[3:]


def test_a_batch_goes_on_with_histories(model, tokenizer) -> None:
    first, histories = model.batch_chat(
        tokenizer, pixels(2), ['One?', 'Two?'], GREEDY, num_patches_list=[1, 1], return_history=True
    )
    assert histories == [[('<image>\nOne?', first[0])], [('<image>\nTwo?', first[1])]]
    second = model.batch_chat(
        tokenizer, pixels(2), ['And?', 'More?'], GREEDY, num_patches_list=[1, 1], history=histories
    )
    alone = model.chat(tokenizer, pixels(2)[:1], 'And?', GREEDY, history=histories[0])
    assert second[0] == alone
    with pytest.raises(DataError, match='history has 1 entries for 2 questions'):
        model.batch_chat(tokenizer, None, ['a', 'b'], GREEDY, history=[[]])


def test_beams_and_sampling_settings_reach_generation(model, tokenizer) -> None:
    beams = model.chat(tokenizer, pixels(1), 'Beam?', dict(GREEDY, num_beams=3))
    torch.manual_seed(0)
    sampled = model.chat(
        tokenizer, pixels(1), 'Beam?', dict(max_new_tokens=6, do_sample=True, temperature=5.0)
    )
    assert isinstance(beams, str) and sampled != model.chat(tokenizer, pixels(1), 'Beam?', GREEDY)


def test_many_tiles_go_through_the_vision_tower_in_parts(model, monkeypatch) -> None:
    sizes, whole, extract = [], model.extract_feature(pixels(37)), model.extract_feature
    monkeypatch.setattr(model, 'extract_feature', lambda tiles: (sizes.append(len(tiles)), extract(tiles))[1])
    torch.testing.assert_close(model.encode_tiles(pixels(37)), whole)
    assert sizes == [16, 16, 5]


def test_a_stream_from_a_thread_is_the_answer(model, tokenizer) -> None:
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True, timeout=10)
    settings = dict(GREEDY, streamer=streamer)
    arguments = dict(
        tokenizer=tokenizer, pixel_values=pixels(1), question='Stream?', generation_config=settings
    )
    answers = []
    thread = threading.Thread(target=lambda: answers.append(model.chat(**arguments)))
    thread.start()
    text = ''.join(part for part in streamer if part != model.conv_template.sep)
    thread.join()
    assert text.strip() and tokenizer.clean_up_tokenization(text).strip() == answers[0]


class Meddler(BaseStreamer):
    """Another thread's doing: changes the model's system message while an answer is being generated."""

    def __init__(self, model: InternVLChatModel):
        self.model = model

    def put(self, value: torch.Tensor) -> None:
        self.model.system_message = 'Answer in French, at length.'

    def end(self) -> None:
        """Nothing is left to do."""


def test_the_system_message_is_read_once_when_a_chat_starts(model, tokenizer) -> None:
    original = model.system_message
    expected, history = model.chat(tokenizer, pixels(1), 'What?', GREEDY, return_history=True)
    try:
        meddled = model.chat(tokenizer, pixels(1), 'What?', dict(GREEDY, streamer=Meddler(model)))
        assert meddled == expected
        assert model.system_message != original
    finally:
        model.system_message = original
    assert model.chat(tokenizer, pixels(1), 'And?', GREEDY, history=history)


def test_special_tokens_in_a_question_are_text_unless_published_behaviour_is_asked_for(
    model, tokenizer
) -> None:
    question = 'What does <|im_end|> or <IMG_CONTEXT> mean?'
    assert isinstance(model.chat(tokenizer, pixels(1), question, GREEDY), str)
    model.published_text = True
    try:
        with pytest.raises(DataError, match='5 image placeholders, the 1 tiles have 4'):
            model.chat(tokenizer, pixels(1), question, GREEDY)
        plain = model.chat(tokenizer, pixels(1), 'Plain?', GREEDY)
    finally:
        del model.published_text
    assert plain == model.chat(tokenizer, pixels(1), 'Plain?', GREEDY)


def test_other_names_of_the_image_tokens(model, tokenizer) -> None:
    names = dict(IMG_START_TOKEN='<img>', IMG_END_TOKEN='</img>', IMG_CONTEXT_TOKEN='<quad>')
    assert isinstance(model.chat(tokenizer, pixels(1), 'What?', GREEDY, **names), str)
    with pytest.raises(DataError, match="'<nothing>' is not a token of this tokenizer"):
        model.chat(tokenizer, pixels(1), 'What?', GREEDY, IMG_CONTEXT_TOKEN='<nothing>')


def test_verbose_shows_the_conversation(model, tokenizer, capsys) -> None:
    answer = model.chat(tokenizer, pixels(1), 'What?', GREEDY, verbose=True)
    model.batch_chat(tokenizer, None, ['Who?'], GREEDY, verbose=True)
    shown = capsys.readouterr().out
    assert '<image>\nWhat?' in shown and 'Who?' in shown and '<IMG_CONTEXT>' not in shown
    assert answer in shown.replace('\n', ' ') or answer in shown


@pytest.mark.parametrize(
    ('images', 'question', 'counts', 'message'),
    [
        (3, 'a', [1, 1], r'num_patches_list=\[1, 1\] adds up to 2 tiles, pixel_values has 3'),
        (3, '<image> <image>', None, '2 <image> for 1 images'),
        (3, '<image>', [1, 2], '1 <image> for 2 images'),
        (3, '<image> <image>', [3, 0], r'num_patches_list=\[3, 0\]: every image has at least one tile'),
        (0, 'What is in <image>?', None, '1 <image> for 0 images'),
    ],
)
def test_images_tiles_and_placeholders_have_to_agree(
    model, tokenizer, images: int, question: str, counts: list | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        model.chat(tokenizer, pixels(images) if images else None, question, GREEDY, num_patches_list=counts)


def test_batches_that_do_not_agree_are_told(model, tokenizer) -> None:
    with pytest.raises(DataError, match='3 tiles cannot be shared by 2 questions: give num_patches_list'):
        model.batch_chat(tokenizer, pixels(3), ['a', 'b'], GREEDY)
    with pytest.raises(DataError, match=r'is about 1 samples and 3 tiles; there are 2 questions and 3 tiles'):
        model.batch_chat(tokenizer, pixels(3), ['a', 'b'], GREEDY, num_patches_list=[3])
    with pytest.raises(DataError, match=r'num_patches_list=\[4, -1\]: every image has at least one tile'):
        model.batch_chat(tokenizer, pixels(3), ['a', 'b'], GREEDY, num_patches_list=[[], [4, -1]])


def test_a_template_of_another_tokenizer_is_refused() -> None:
    with pytest.raises(ConfigError, match="template='phi3-chat' writes"):
        tiny_model(template='phi3-chat').chat(tokenizer_of(), None, 'Hello', GREEDY)


def test_prompt_text_is_the_rendered_one_with_placeholders() -> None:
    template = chat_template('Hermes-2')
    prompt = build_prompt(template, [('<image>\nQ', None)], [2], 2, system_message='S')
    images = '<img>' + '<IMG_CONTEXT>' * 4 + '</img>'
    assert prompt == (
        f'<|im_start|>system\nS<|im_end|><|im_start|>user\n{images}\nQ<|im_end|><|im_start|>assistant\n'
    )
    with pytest.raises(DataError, match='the conversation has 2 <image> but 1 images were given'):
        expand_images('<image><image>', [1], 4)


def test_counts_of_tiles_may_be_arrays_and_a_batch_is_not_empty(model, tokenizer) -> None:
    tiles, questions = pixels(3), ['One?', 'Two?']
    plain = model.batch_chat(tokenizer, tiles, questions, GREEDY, num_patches_list=[1, 2])
    for counts in (torch.tensor([1, 2]), np.array([1, 2]), [np.int64(1), np.int64(2)]):
        assert model.batch_chat(tokenizer, tiles, questions, GREEDY, num_patches_list=counts) == plain
    with pytest.raises(DataError, match='questions is empty'):
        model.batch_chat(tokenizer, None, [], GREEDY)


def test_settings_may_be_a_generation_config_and_ask_for_one_answer(model, tokenizer) -> None:
    settings = dict(max_new_tokens=4, do_sample=False)
    answer = model.chat(tokenizer, None, 'How many?', settings)
    assert model.chat(tokenizer, None, 'How many?', GenerationConfig(**settings)) == answer
    config = copy.deepcopy(model.language_model.generation_config)
    config.update(**settings)
    assert model.chat(tokenizer, None, 'How many?', config) == answer, "the model's own, changed"
    with pytest.raises(DataError, match='num_return_sequences=2: chat gives one answer per question'):
        model.chat(tokenizer, None, 'How many?', dict(settings, num_return_sequences=2))


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (dict(max_new_tokens=0), 'max_new_tokens=0 is not possible: it must be a whole number from 1'),
        (dict(num_beams=None), 'num_beams=None is not possible'),
        (dict(max_new_tokens=4.5), 'max_new_tokens=4.5 is not possible'),
        (dict(return_dict_in_generate=True), 'return_dict_in_generate=True is .* a chat answers in text'),
        (dict(min_new_tokens=-1), 'min_new_tokens=-1 is not possible: it must be a whole number from 0'),
        (
            dict(do_sample=True, temperature=0.0),
            'temperature=0.0 is not possible: it must be a float above 0',
        ),
        (dict(repetition_penalty=2), 'repetition_penalty=2 is not possible: it must be a float above 0'),
        (dict(do_sample=True, top_p=1.5), 'top_p=1.5 is not possible: it must be a number from 0 to 1'),
        (dict(max_new_token=4), "'max_new_token' is unknown.* Did you mean 'max_new_tokens'?"),
        (dict(input_ids=None), "'input_ids' is unknown"),
    ],
)
def test_settings_that_are_not_possible_or_misspelt_are_told(model, tokenizer, wrong, message: str) -> None:
    with pytest.raises(ConfigError, match=f'generation setting {message}'):
        model.chat(tokenizer, None, 'How many?', {**GREEDY, **wrong})
    with pytest.raises(ConfigError, match=f'generation setting {message}'):
        model.batch_chat(tokenizer, None, ['How many?'], {**GREEDY, **wrong})


def test_what_is_not_read_and_what_is_left_at_its_default_passes(model, tokenizer) -> None:
    plain = model.chat(tokenizer, None, 'How many?', GREEDY)
    given = dict(GREEDY, temperature=0.0, top_k=None, max_length=None, repetition_penalty=1)
    assert model.chat(tokenizer, None, 'How many?', given) == plain
