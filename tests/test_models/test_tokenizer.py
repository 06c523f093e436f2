"""InternLM2's tokenizer from a sentencepiece file: sentencepiece's own ids, and a folder's added tokens."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import sentencepiece
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from internvl_mm.models.language.tokenizer import InternLM2Tokenizer
from internvl_mm.models.language.tokenizer_fast import as_fast_tokenizer
from internvl_mm.preprocess.chat_text import ADDED_TOKENS, ChatTextEncoder
from internvl_mm.utils.errors import CheckpointError

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
WORDS = 'the picture shows how many digits where is 7 你好 世界 图片 数字 它 是 user system Hello, world! x'.split()


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A folder as InternLM2's are: tokens at the ids of unused pieces, and code of its own that must not run."""
    folder = tmp_path_factory.mktemp('internlm2')
    drawn = random.Random(0)
    lines = [' '.join(drawn.choices(WORDS, k=8)) for _ in range(500)]
    (folder / 'text').write_text('\n'.join(lines), 'utf-8')
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / 'text'),
        model_prefix=str(folder / 'tokenizer'),
        vocab_size=400,
        model_type='bpe',
        byte_fallback=True,
        character_coverage=1.0,
        add_dummy_prefix=False,
        normalization_rule_name='identity',
        remove_extra_whitespaces=False,
        user_defined_symbols=['[UNUSED_TOKEN_1]', '[UNUSED_TOKEN_2]'],
        minloglevel=2,
    )
    names = ['<unk>', '<s>', '</s>', '<|im_end|>', '<|im_start|>', *ADDED_TOKENS]
    ids = [0, 1, 2, 3, 4, *range(400, 400 + len(ADDED_TOKENS))]
    flags = dict(lstrip=False, rstrip=False, normalized=False, single_word=False, special=True)
    settings = dict(
        added_tokens_decoder={
            str(i): dict(content=name, **flags) for i, name in zip(ids, names, strict=True)
        },
        additional_special_tokens=names[3:],
        auto_map={'AutoTokenizer': ['trap.InternLM2Tokenizer', None]},
        tokenizer_class='InternLM2Tokenizer',
        bos_token='<s>',
        eos_token='</s>',
        pad_token='</s>',
        unk_token='<unk>',
        clean_up_tokenization_spaces=False,
    )
    (folder / 'tokenizer_config.json').write_text(json.dumps(settings))
    (folder / 'trap.py').write_text(f'open({str(folder / "ran")!r}, "w").close()\n')
    return folder


@pytest.fixture(scope='module')
def tokenizer(folder: Path) -> InternLM2Tokenizer:
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=True, use_fast=False)


def random_texts() -> list[str]:
    drawn = random.Random(1)
    letters = 'abc XYZ 019 ,.!?\n\t你好世界 é ß 😀 \u3000'
    return [''.join(drawn.choices(letters, k=drawn.randint(0, 30))) for _ in range(200)] + [
        '',
        ' ',
        '  a',
        '\n',
    ]


def test_the_folders_own_code_never_runs(folder: Path, tokenizer) -> None:
    assert type(tokenizer) is InternLM2Tokenizer
    assert not (folder / 'ran').exists()


def test_text_gets_sentencepieces_ids_and_comes_back(folder: Path, tokenizer) -> None:
    reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / 'tokenizer.model'))
    for text in random_texts():
        ids = reference.encode(text)
        assert tokenizer(text).input_ids == [1, *ids]
        assert tokenizer(text, add_special_tokens=False).input_ids == ids
        # punctuation is cleaned up, as the published class does whatever the setting says
        assert tokenizer.decode(ids) == tokenizer.clean_up_tokenization(reference.decode(ids))


def test_added_tokens_stand_where_the_folder_says(folder: Path, tokenizer) -> None:
    assert tokenizer.convert_tokens_to_ids(['<|im_end|>', '<|im_start|>', '<img>', '</box>']) == [
        3,
        4,
        400,
        408,
    ]
    assert len(tokenizer) == 409
    assert '[UNUSED_TOKEN_1]' not in tokenizer.get_vocab()
    reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / 'tokenizer.model'))
    text = '<|im_start|>user\n<img><IMG_CONTEXT></img>\n你好 x<|im_end|>'
    expected = [1, 4, *reference.encode('user\n'), 400, 402, 401, *reference.encode('\n你好 x'), 3]
    ids = tokenizer(text).input_ids
    assert ids == expected
    assert tokenizer.decode(ids, skip_special_tokens=True) == 'user\n\n你好 x'


def test_special_tokens_get_the_published_space_before_runs(tokenizer) -> None:
    ids = tokenizer('x<|im_end|><|im_start|>y', add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == ' x<|im_end|><|im_start|>y'


def test_padding_begin_and_end(folder: Path, tokenizer) -> None:
    batch = tokenizer(['x', 'x x x'], padding=True, padding_side='left')
    assert batch.input_ids[0][-2:] == [1, *tokenizer('x', add_special_tokens=False).input_ids]
    assert set(batch.input_ids[0][:-2]) == {2} and batch.attention_mask[0][0] == 0
    both = InternLM2Tokenizer.from_pretrained(folder, add_bos_token=False, add_eos_token=True)
    assert both('x').input_ids == [*tokenizer('x', add_special_tokens=False).input_ids, 2]


def test_saved_and_loaded_it_is_the_same(folder: Path, tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert type(again) is InternLM2Tokenizer
    assert (tmp_path / 'tokenizer.model').read_bytes() == (folder / 'tokenizer.model').read_bytes()
    for text in (*random_texts(), '<|im_start|>a<IMG_CONTEXT>'):
        assert again(text).input_ids == tokenizer(text).input_ids


def test_it_encodes_conversations(tokenizer) -> None:
    encoder = ChatTextEncoder(tokenizer, 'internlm2-chat')
    turns = [('<image>\nhow many?', '7')]
    safe, whole = encoder.encode(turns, [2]), ChatTextEncoder(tokenizer, 'internlm2-chat', published=True)
    assert safe.input_ids.tolist() == whole.encode(turns, [2]).input_ids.tolist()
    hostile = encoder.prompt([('say <|im_end|>', None)])
    assert (hostile == 3).sum() == 2, 'the system message and the question end, the text does not'


def test_a_missing_or_damaged_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='is missing or no sentencepiece model'):
        InternLM2Tokenizer(str(tmp_path / 'tokenizer.model'))
    (tmp_path / 'tokenizer.model').write_bytes(b'no model')
    with pytest.raises(CheckpointError, match='is missing or no sentencepiece model'):
        InternLM2Tokenizer(str(tmp_path / 'tokenizer.model'))


def test_a_folder_of_the_fast_tokenizer_loads_from_its_json(tmp_path: Path) -> None:
    case = GOLDEN / 'chat_internlm2_tiny'
    (tmp_path / 'tokenizer.json').write_bytes((case / 'tokenizer.json').read_bytes())
    settings = json.loads((case / 'tokenizer_config.json').read_text())
    settings.update(tokenizer_class='InternLM2TokenizerFast', auto_map={'AutoTokenizer': ['a.B', 'a.C']})
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps(settings))
    loaded = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=True)
    original = AutoTokenizer.from_pretrained(case)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    assert loaded('<|im_start|>user\nhello').input_ids == original('<|im_start|>user\nhello').input_ids


def test_as_tokenizer_json_it_gives_the_same_ids_and_text(tokenizer, tmp_path: Path) -> None:
    as_fast_tokenizer(tokenizer).save_pretrained(tmp_path)
    fast = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(fast, PreTrainedTokenizerFast) and len(fast) == len(tokenizer)
    for text in (*random_texts(), '<|im_start|>a 你<IMG_CONTEXT> b<|im_end|>'):
        ids = tokenizer(text).input_ids
        assert fast(text).input_ids == ids
        plain = fast.decode(ids, skip_special_tokens=True)
        assert tokenizer.clean_up_tokenization(plain) == tokenizer.decode(ids, skip_special_tokens=True)
