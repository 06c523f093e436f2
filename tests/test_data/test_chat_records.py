"""Lines of the published formats."""

from __future__ import annotations

import pytest

from internvl_mm.data.chat_records import parse_messages, parse_record
from internvl_mm.structures import ChatRecord
from internvl_mm.utils.errors import DataError
from tests.chat_cases import talk


def test_images() -> None:
    line = dict(id=1, image='a/b.jpg', width=30, height=20, conversations=talk('<image>\nQ', 'A'))
    assert parse_record(line, '/data') == ChatRecord(
        turns=(('<image>\nQ', 'A'),), images=('/data/a/b.jpg',), sizes=((30, 20),)
    )
    several = dict(
        image=['x', 'y'], width_list=[1, 2], height_list=[3, 4], conversations=talk('<image><image>', 'A')
    )
    assert parse_record(several, 's3://bucket/').images == ('s3://bucket/x', 's3://bucket/y')
    assert parse_record(several).sizes == ((1, 3), (2, 4))


def test_the_one_placeholder_may_be_missing() -> None:
    assert parse_record(dict(image='x', conversations=talk('Q', 'A', 'R', 'B'))).turns == (
        ('<image>\nQ', 'A'),
        ('R', 'B'),
    )
    video = parse_record(dict(video='v/', clip=[1, 2.5], conversations=talk('Q', 'A')), 'root')
    assert (video.turns[0][0], video.video, video.clip) == ('<video>\nQ', 'root/v/', (1.0, 2.5))


@pytest.mark.parametrize('image', [None, '', []])
def test_text_alone(image) -> None:
    assert parse_record(dict(image=image, conversations=talk('Q', 'A'), length=7)) == ChatRecord(
        turns=(('Q', 'A'),), length=7
    )


def test_odd_sizes_are_not_believed() -> None:
    for sizes in (
        dict(width=0, height=5),
        dict(width='3', height=5),
        dict(width_list=[3], height_list=[]),
        {},
    ):
        assert parse_record(dict(image='x', conversations=talk('Q', 'A'), **sizes)).sizes is None


def test_messages_in_both_spellings_with_a_system_message_and_a_first_answer_dropped() -> None:
    messages = [
        {'role': 'system', 'content': 'S'},
        {'from': 'gpt', 'value': 'Hello!'},
        {'role': 'user', 'content': 'Q'},
        {'role': 'assistant', 'content': 'A'},
    ]
    assert parse_messages(messages) == ('S', (('Q', 'A'),))


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        (dict(conversations='hello'), 'the conversation is empty'),
        (dict(conversations=['hello']), 'message 1 is str instead of an object'),
        (dict(conversations=talk('Q', 'A'), image=3), 'image or video is 3 instead of a path'),
        (dict(conversations=talk('Q', 'A'), video=['a', 'b']), 'a sample has 2 videos'),
        (dict(conversations=talk('<image> Q', 'A'), video='v'), 'a video has <image> in its questions'),
        (dict(conversations=talk('Q', 'A'), clip=[1]), r'clip=\[1\] has to be'),
    ],
)
def test_mistakes_are_told(line, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_record(line)
