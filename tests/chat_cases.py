"""Tiny conversations for tests: the golden tokenizers, an encoder with small tiles, and the embedded data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoTokenizer

from internvl_mm.data.digit_scenes.settings import DigitSceneSettings
from internvl_mm.data.digit_scenes.write import write_digit_scenes
from internvl_mm.preprocess import ChatEncoder, DynamicTiling, RandomFrames

TOKENIZERS = Path(__file__).parent / 'data' / 'golden' / 'text'
TILE, TOKENS_PER_TILE = 28, 4


def encoder(template: str = 'Hermes-2', **options: Any) -> ChatEncoder:
    """Tiles of 28 pixels with four tokens each, at most six of them; two to four frames of a video."""
    name = 'tokenizer_internlm2' if template == 'internlm2-chat' else 'tokenizer_qwen2'
    settings: dict[str, Any] = dict(
        tokens_per_tile=TOKENS_PER_TILE,
        tiling=DynamicTiling(6, size=TILE),
        frames=RandomFrames(2, 4),
        system_message='Be brief.',
        max_length=600,
    )
    return ChatEncoder(AutoTokenizer.from_pretrained(TOKENIZERS / name), template, **{**settings, **options})


def digit_scenes(folder: Path) -> Path:
    """The embedded data set at its smallest; returns the meta file of its training split."""
    settings = DigitSceneSettings(train_size=8, test_size=2, canvas=56, digit_canvas=28)
    return write_digit_scenes(folder, settings=settings) / 'chat' / 'meta_train.json'


def talk(*texts: str) -> list[dict[str, str]]:
    """Messages of the published form, the human first."""
    return [{'from': ('human', 'gpt')[i % 2], 'value': text} for i, text in enumerate(texts)]


def write_jsonl(file: Path, samples: list[Any]) -> str:
    """One line per sample; text is written as it is."""
    lines = [sample if isinstance(sample, str) else json.dumps(sample) for sample in samples]
    file.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
    return str(file)


def write_image(file: Path, size: tuple[int, int] = (56, 28), shade: int = 90) -> str:
    """A picture of one colour; returns its name."""
    Image.new('RGB', size, (shade, 20, 200)).save(file)
    return file.name


def bad_lines(folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """Every mistake a sample can have: name → (sample, what the message says)."""
    write_image(folder / 'ok.png')
    (folder / 'broken.png').write_bytes((folder / 'ok.png').read_bytes()[:60])
    write_image(folder / 'huge.png', (400, 400))
    (folder / 'no_frames').mkdir(exist_ok=True)
    frames = folder / 'frames'
    frames.mkdir(exist_ok=True)
    for number in range(4):
        write_image(frames / f'f_{number}.jpg')
    ask: Callable[..., dict[str, Any]] = lambda **more: dict(conversations=talk('Q', 'A'), **more)  # noqa: E731
    return {
        'fewer placeholders': (ask(image=['ok.png', 'ok.png']), 'have 0 <image> for 2 images'),
        'more placeholders': (
            dict(image='ok.png', conversations=talk('<image> <image> Q', 'A')),
            'have 2 <image> for 1 images',
        ),
        'placeholder without image': (
            dict(conversations=talk('<image> Q', 'A')),
            'have 1 <image> for 0 images',
        ),
        'empty conversation': (dict(conversations=[]), 'the conversation is empty'),
        'no conversation': (dict(image='ok.png'), 'the conversation is empty'),
        'unknown role': (dict(conversations=[{'from': 'bot', 'value': 'x'}]), "unknown role 'bot'"),
        'role is no text': (
            dict(conversations=[{'from': ['human'], 'value': 'x'}]),
            "unknown role ['human']",
        ),
        'conversation is a number': (dict(conversations=5), 'the conversation is empty'),
        'half a character': (dict(conversations=talk('Q <|\ud83d|>', 'A')), r"message 1 holds '\ud83d'"),
        'half a character in a path': (ask(image='\ud83d.png'), r"a path of image or video holds '\ud83d'"),
        'not alternating': (
            dict(conversations=[*talk('Q', 'A'), {'from': 'gpt', 'value': 'B'}]),
            'roles have to alternate',
        ),
        'open end': (dict(conversations=talk('Q', 'A', 'Q')), 'its last question has no answer'),
        'empty answer': (dict(conversations=talk('Q', ' ')), 'answer 1 of 1 has no text to learn'),
        'missing image': (ask(image='gone.png'), 'cannot be read (No such file or directory)'),
        'broken image': (ask(image='broken.png'), 'truncated or damaged'),
        'bomb': (ask(image='huge.png'), 'more than max_pixels=50,000'),
        'missing video': (ask(video='gone.mp4'), 'there is no such video'),
        'video without frames': (ask(video='no_frames/'), 'the video has no frames'),
        'clip outside': (
            ask(video='frames/', clip=[30, 40]),
            'the clip from 30 to 40 s lies outside the video',
        ),
        'clip reversed': (ask(video='frames/', clip=[4, 3]), 'clip=[4, 3] has to be [start, end]'),
        'image and video': (ask(video='frames/', image='ok.png'), 'has image and video'),
        'too long': (dict(conversations=talk('Q', 'long ' * 600)), 'more than max_length=600'),
        'text is no text': (dict(conversations=[{'from': 'human', 'value': 3}]), 'holds int instead of text'),
    }
