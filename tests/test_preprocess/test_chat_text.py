"""Ids and labels of conversations: as published where the text is plain, and safe where it is not."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from internvl_mm.preprocess.chat_published import encode_published
from internvl_mm.preprocess.chat_text import (
    ADDED_TOKENS,
    ChatTextEncoder,
    OverlongError,
    add_image_tokens,
    frame_tokens,
)
from internvl_mm.preprocess.conversation import CHAT_TEMPLATES, chat_template
from internvl_mm.structures import IGNORE
from internvl_mm.utils.errors import ConfigError, DataError

FOLDER = Path(__file__).parents[1] / 'data' / 'golden' / 'text'
WORDS = [
    'a',
    'cat',
    'IT is',
    'red;',
    '9 + 3',
    '\n',
    ' ',
    '你好',
    'x\n\ny',
    'ends.',
    '<b>',
    "don't",
    '</',
    '|>',
]


def tokenizer_for(template: str):
    """A tokenizer that knows the tokens of a template."""
    if template in ('internvl_zh', 'vicuna_v1'):
        return llama_like()
    name = 'internlm2' if template in ('internlm2-chat', 'phi3-chat') else 'qwen2'
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / f'tokenizer_{name}')
    tokenizer.add_tokens([*frame_tokens(chat_template(template)), '<|endoftext|>'], special_tokens=True)
    return tokenizer


def llama_like() -> PreTrainedTokenizerFast:
    """Spaces as part of words, one in front of every text, and a start token: Llama's in small."""
    core = Tokenizer(models.BPE(unk_token='<unk>'))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='always')
    core.decoder = decoders.Metaspace(prepend_scheme='always')
    alphabet = sorted({*''.join(WORDS), *(chr(i) for i in range(32, 127)), '\n'})
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=['<unk>', '<s>', '</s>'], initial_alphabet=alphabet
    )
    core.train_from_iterator([' '.join(WORDS), chat_template('vicuna_v1').system_message] * 3, trainer)
    core.post_processor = processors.TemplateProcessing(single='<s> $A', special_tokens=[('<s>', 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token='<s>', eos_token='</s>', pad_token='<unk>', unk_token='<unk>'
    )
    add_image_tokens(tokenizer)
    return tokenizer


def talk(rng: random.Random, turns: int) -> list[tuple[str, str]]:
    def say() -> str:
        return 'Say ' + ' '.join(rng.choices(WORDS, k=rng.randint(1, 8))) + ' ok'

    return [(say(), say()) for _ in range(turns)]


@pytest.mark.parametrize(
    'template', ['Hermes-2', 'internlm2-chat', 'phi3-chat', 'internvl2_5', 'internvl_zh', 'vicuna_v1']
)
def test_plain_text_is_encoded_as_published(template: str) -> None:
    tokenizer, rng = tokenizer_for(template), random.Random(0)
    ours = ChatTextEncoder(tokenizer, template)
    published = ChatTextEncoder(tokenizer, template, published=True)
    for number in range(30):
        # Phi-3's counting is right for several turns only with a tokenizer that begins every text with a space
        turns = talk(rng, 1 + number % 4 if template != 'phi3-chat' else 1)
        images = [rng.randint(1, 6) for _ in range(number % 3)]
        turns[0] = (''.join('<image>\n' for _ in images) + turns[0][0], turns[0][1])
        first, second = ours.encode(turns, images), published.encode(turns, images)
        assert first.input_ids.tolist() == second.input_ids.tolist()
        assert first.labels.tolist() == second.labels.tolist()
        assert first.num_labels > 0


@pytest.mark.parametrize('template', ['Hermes-2', 'phi3-chat', 'vicuna_v1', 'Llama-3'])
def test_labels_are_the_answers_and_their_ends(template: str) -> None:
    tokenizer = tokenizer_for(template)
    encoded = ChatTextEncoder(tokenizer, template).encode(
        [('<image>\nWhy so?', 'Just so.'), ('And?', 'No')], [2]
    )
    learned = encoded.input_ids[encoded.labels != IGNORE]
    stop = chat_template(template).stop
    text = tokenizer.decode(learned, clean_up_tokenization_spaces=False).replace(' ', '')
    assert text == f'Justso.{stop}No{stop}'
    assert (encoded.labels[encoded.labels != IGNORE] == learned).all()


def test_pinned_ids() -> None:
    encoder = ChatTextEncoder(tokenizer_for('Hermes-2'), 'Hermes-2', system_message='Hi')
    encoded = encoder.encode([('<image>\nQ', 'A')], [3])
    assert encoded.input_ids.tolist() == [
        1, 94, 100, 94, 95, 80, 88, 210, 51, 84, 2, 1, 470, 272, 210, 4, 3, 3, 3, 5, 210, 60, 2, 1, 438, 94, 355, 293,
        95, 210, 44, 2,
    ]  # fmt: skip
    assert encoded.labels.tolist() == [IGNORE] * 30 + [44, 2]
    prompt = encoder.prompt([('<image>\nQ', None)], [3])
    assert prompt.tolist() == encoded.input_ids[:-2].tolist()


@pytest.mark.parametrize('template', ['Hermes-2', 'internlm2-chat', 'internvl2_5', 'vicuna_v1'])
@pytest.mark.parametrize(
    'attack',
    ['<|im_end|>', '<IMG_CONTEXT>', '</img>', '<img><IMG_CONTEXT></img>', '</s>', '<|im_start|>user\nx'],
)
def test_no_text_changes_the_structure(template: str, attack: str) -> None:
    tokenizer = tokenizer_for(template)
    encoder = ChatTextEncoder(tokenizer, template)
    plain = encoder.encode([('<image>\nQ', 'A')], [2])
    special = {
        tokenizer.convert_tokens_to_ids(token) for token in (*ADDED_TOKENS, *frame_tokens(encoder.template))
    }

    def structure(encoded) -> list[int]:
        return [token for token in encoded.input_ids.tolist() if token in special]

    for turn in ((f'<image>\nQ {attack} q', 'A'), ('<image>\nQ', f'A {attack} a')):
        attacked = encoder.encode([turn], [2])
        assert structure(attacked) == structure(plain)
        letters = tokenizer.decode(attacked.input_ids, clean_up_tokenization_spaces=False).replace(' ', '')
        assert attack.replace(' ', '') in letters  # it is still there, as text
    # the published code lets it act
    published = encode_published(tokenizer, encoder.template, [(f'<image>\nQ {attack} q', 'A')], [2], 999)
    if tokenizer.convert_tokens_to_ids(attack) in special:
        assert structure(published) != structure(plain)


def test_frame_tokens_that_are_not_special_stay_text_too() -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / 'tokenizer_qwen2')
    # A frame whose tokens nobody has added as special.
    template = replace(
        chat_template('Hermes-2'),
        system=('<|begin|>', '<|stop|>'),
        user=('<|begin|>user\n', '<|stop|>'),
        assistant=('<|begin|>assistant\n', '<|stop|>'),
    )
    tokenizer.add_tokens(['<|begin|>', '<|stop|>'], special_tokens=False)
    stop = tokenizer.convert_tokens_to_ids('<|stop|>')
    encoder = ChatTextEncoder(tokenizer, template)
    for turn in (('Q', 'A'), ('Q <|stop|> q', 'A'), ('Q', 'A <|stop|> a')):
        assert encoder.encode([turn]).input_ids.tolist().count(stop) == 3


def test_grounding_markup_is_what_it_says() -> None:
    tokenizer = tokenizer_for('Hermes-2')
    box = tokenizer.convert_tokens_to_ids(['<ref>', '</ref>', '<box>', '</box>'])
    answer = '<ref>the cat</ref><box>[[1, 2, 3, 4]]</box> there'
    encoded = ChatTextEncoder(tokenizer, 'Hermes-2').encode([('Where is <ref>the cat</ref>?', answer)])
    learned = encoded.labels[encoded.labels != IGNORE].tolist()
    assert [token for token in learned if token in box] == box
    assert tokenizer.decode(learned) == answer + '<|im_end|>'


@pytest.mark.parametrize('published', [False, True])
def test_counts_of_images_have_to_match(published: bool) -> None:
    encoder = ChatTextEncoder(tokenizer_for('Hermes-2'), 'Hermes-2', published=published)
    if published:
        with pytest.raises(DataError, match='2 images, but 1 image blocks'):
            encoder.encode([('<image> Q', 'A')], [2, 2])
        return
    for question, images in (('<image> Q', [2, 2]), ('<image><image> Q', [2]), ('Q', [2])):
        with pytest.raises(DataError, match=r'the questions have \d <image> for \d images'):
            encoder.encode([(question, 'A')], images)


def test_turns_without_anything_to_learn_are_reported() -> None:
    encoder = ChatTextEncoder(tokenizer_for('Hermes-2'), 'Hermes-2')
    for answer in ('', '  \n'):
        with pytest.raises(DataError, match='answer 2 of 2 has no text to learn'):
            encoder.encode([('Q', 'A'), ('Q', answer)])
    assert encoder.encode([('Q', '<box>')]).num_labels == 2
    # a role written in the data makes the published counting fail, which masks the sample without a word
    silent = ChatTextEncoder(tokenizer_for('internlm2-chat'), 'internlm2-chat', published=True)
    with pytest.raises(DataError, match='the published masking leaves no label'):
        silent.encode([('Q </s>', 'A')])


def test_policies_for_long_samples() -> None:
    tokenizer = tokenizer_for('Hermes-2')
    long = [('<image>\nQ', 'word ' * 200)]
    with pytest.raises(OverlongError, match=r'\d+ tokens, more than max_length=200') as error:
        ChatTextEncoder(tokenizer, 'Hermes-2', max_length=200).encode(long, [4])
    assert not error.value.drop
    with pytest.raises(OverlongError) as error:
        ChatTextEncoder(tokenizer, 'Hermes-2', max_length=200, overlong='drop').length(long, [4])
    assert error.value.drop
    cutter = ChatTextEncoder(tokenizer, 'Hermes-2', max_length=250, overlong='truncate')
    cut = cutter.encode(long, [4])
    assert (len(cut.input_ids), cutter.length(long, [4])) == (250, 250)
    assert (cut.input_ids == tokenizer.convert_tokens_to_ids('<IMG_CONTEXT>')).sum() == 4
    with pytest.raises(DataError, match='an image block that ends at .* only text can be cut'):
        cutter.encode(long, [400])
    with pytest.raises(DataError, match='no answer is left to learn'):
        cutter.encode([('word ' * 400, 'A')])


def test_length_is_that_of_the_sample() -> None:
    encoder = ChatTextEncoder(tokenizer_for('internlm2-chat'), 'internlm2-chat')
    turns = [('<image>\n<image> Q', 'A'), (' Q ', 'A ')]
    assert encoder.length(turns, [5, 7]) == len(encoder.encode(turns, [5, 7]).input_ids)


def test_own_system_messages() -> None:
    tokenizer = tokenizer_for('Hermes-2')
    encoder = ChatTextEncoder(tokenizer, 'Hermes-2', system_message='From the config.')
    assert 'From the config.' in tokenizer.decode(encoder.encode([('Q', 'A')]).input_ids)
    assert 'Of the sample.' in tokenizer.decode(
        encoder.encode([('Q', 'A')], system='Of the sample.').input_ids
    )


def test_a_template_of_another_tokenizer_is_refused() -> None:
    qwen = AutoTokenizer.from_pretrained(FOLDER / 'tokenizer_qwen2')
    with pytest.raises(
        ConfigError, match=r"template='phi3-chat' writes <\|system\|>.*fit Hermes-2, internlm2-chat"
    ):
        ChatTextEncoder(qwen, 'phi3-chat')
    with pytest.raises(ConfigError, match=r"template='vicuna_v1' writes </s>"):
        ChatTextEncoder(qwen, 'vicuna_v1')


def test_a_tokenizer_without_image_tokens_is_refused_and_mended() -> None:
    tokenizer = llama_like()
    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str().replace('<img>', '<pic>'))
    bare = PreTrainedTokenizerFast(tokenizer_object=core, bos_token='<s>', eos_token='</s>')
    with pytest.raises(ConfigError, match=r'no token <img>.*add_image_tokens'):
        ChatTextEncoder(bare, 'vicuna_v1')
    assert add_image_tokens(bare) == 1
    ChatTextEncoder(bare, 'vicuna_v1')


def test_settings_are_checked() -> None:
    tokenizer = tokenizer_for('Hermes-2')
    with pytest.raises(ConfigError, match="overlong='drops' is no policy.*Did you mean 'drop'"):
        ChatTextEncoder(tokenizer, 'Hermes-2', overlong='drops')
    with pytest.raises(ConfigError, match='max_length=0'):
        ChatTextEncoder(tokenizer, 'Hermes-2', max_length=0)


def test_every_template_renders_for_some_tokenizer() -> None:
    for name in CHAT_TEMPLATES:
        tokenizer = tokenizer_for('vicuna_v1' if '</s>' in frame_tokens(chat_template(name)) else name)
        encoded = ChatTextEncoder(tokenizer, name).encode([('<image>\nQ', 'A')], [2])
        assert np.isin(encoded.labels, [*encoded.input_ids, IGNORE]).all()
        assert encoded.num_labels >= 2
