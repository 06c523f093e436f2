"""Chat data is checked sample by sample, and everything wrong is told."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from internvl_mm.data.decode import ImageDecoder
from internvl_mm.evaluation.chat_check import ChatChecker, check_all, check_boxes, count_findings
from internvl_mm.evaluation.chat_check_html import count_bars, length_bars, summarise, write_check_page
from internvl_mm.utils.errors import DataError
from tests.chat_cases import bad_lines, digit_scenes, encoder, talk, write_jsonl

KINDS = {
    'fewer placeholders': 'image count',
    'more placeholders': 'image count',
    'placeholder without image': 'image count',
    'empty conversation': 'format',
    'no conversation': 'format',
    'unknown role': 'format',
    'role is no text': 'format',
    'conversation is a number': 'format',
    'half a character': 'format',
    'half a character in a path': 'format',
    'not alternating': 'format',
    'open end': 'format',
    'empty answer': 'empty answer',
    'missing image': 'missing file',
    'broken image': 'broken file',
    'bomb': 'broken file',
    'missing video': 'missing file',
    'video without frames': 'broken file',
    'clip outside': 'broken file',
    'clip reversed': 'format',
    'image and video': 'format',
    'too long': 'too long',
    'text is no text': 'format',
}


def meta_of(folder: Path, lines: list[dict]) -> Path:
    annotation = write_jsonl(folder / 'a.jsonl', lines)
    (folder / 'meta.json').write_text(json.dumps(dict(toy=dict(root=str(folder), annotation=annotation))))
    return folder / 'meta.json'


def test_every_mistake_is_found(tmp_path: Path) -> None:
    cases = bad_lines(tmp_path)
    meta = meta_of(tmp_path, [line for line, _ in cases.values()])
    checker = ChatChecker(meta, encoder(decoder=ImageDecoder(max_pixels=50_000)))
    reports = check_all(checker, tmp_path / 'samples.jsonl')
    found = {name: [kind for kind, _ in report.findings] for name, report in zip(cases, reports)}
    assert found == {name: [kind] for name, kind in KINDS.items()}
    assert not any(report.usable for report in reports)
    assert count_findings(reports) == dict(Counter(KINDS.values()))
    lines = [json.loads(line) for line in (tmp_path / 'samples.jsonl').read_text().splitlines()]
    assert [line['path'].rpartition(':')[2] for line in lines] == [
        str(number + 1) for number in range(len(cases))
    ]


def test_preferences_are_checked_with_both_answers(tmp_path: Path) -> None:
    lines = [
        dict(question='How many?', chosen='two of them', rejected='2'),
        dict(question='How many?', chosen='two <box>[[1, 2]]</box>', rejected=' '),
        dict(question='How many?', chosen='two'),
        dict(question='How many?', rejected='two'),
        dict(question='<box>[[1, 2]]</box>?', chosen='two', rejected='2'),
    ]
    good, odd, broken, other, asked = check_all(
        ChatChecker(meta_of(tmp_path, lines), encoder()), tmp_path / 'samples.jsonl'
    )
    longer = dict(conversations=talk('How many?', 'two of them'))
    (alone,) = check_all(ChatChecker(meta_of(tmp_path, [longer]), encoder()), tmp_path / 'samples.jsonl')
    assert not good.findings and (good.tokens, good.labels) == (alone.tokens, alone.labels)
    assert [finding[0] for finding in odd.findings] == ['box', 'empty answer']
    assert all('needs question, chosen and rejected' in str(bad.findings) for bad in (broken, other))
    assert [finding[0] for finding in asked.findings] == ['box']


def test_what_is_odd_but_usable(tmp_path: Path) -> None:
    bad_lines(tmp_path)
    lines = [
        dict(conversations=talk('Q <|im_end|>', 'A')),
        dict(conversations=talk('Where?', '<ref>x</ref><box>[[0, 5, 1001, 9]]</box>')),
        dict(image='ok.png', width=5, height=28, conversations=talk('Q', 'A')),
        dict(conversations=[{'from': 'gpt', 'value': 'Hi'}, *talk('Q', 'A')]),
        dict(image='broken.png', conversations=talk('Q', 'A')),
    ]
    checker = ChatChecker(meta_of(tmp_path, lines), encoder(), read_files=False)
    reports = check_all(checker, tmp_path / 'samples.jsonl', workers=1)
    assert [[kind for kind, _ in report.findings] for report in reports] == [
        ['special token'],
        ['box'],
        ['size'],
        ['first answer dropped'],
        [],  # its header is whole, and nothing else was asked to be read
    ]
    assert all(report.usable for report in reports)
    assert reports[2].findings[0][1] == 'width and height say [(5, 28)], the files are [(56, 28)]'
    assert (reports[0].tokens, reports[0].labels, reports[0].tiles) == (reports[0].tokens, 2, 0)


@pytest.mark.parametrize('has_encoder', [True, False])
def test_the_embedded_data_is_clean_and_counted(tmp_path: Path, has_encoder: bool) -> None:
    meta = digit_scenes(tmp_path / 'digits')
    checker = ChatChecker(meta, encoder() if has_encoder else None)
    reports = check_all(checker, tmp_path / 'samples.jsonl')
    assert len(reports) == 30
    assert count_findings(reports) == {}
    rows = {row[0]: row for row in summarise(reports)}
    single = rows['digit_scenes_single_en']
    assert single[1:3] == (8, 8)
    assert (single[3] > 0) == has_encoder
    page = write_check_page(reports, tmp_path / 'report.html', title='Digits').read_text()
    assert 'Nothing is wrong.' in page
    assert 'digit_scenes_video_zh' in page


def test_half_a_character_can_be_written_about(tmp_path: Path) -> None:
    meta = meta_of(tmp_path, [dict(conversations=talk('Q <|\ud83d|>', 'A'))])
    (report,) = check_all(ChatChecker(meta), tmp_path / 'samples.jsonl')
    assert [kind for kind, _ in report.findings] == ['format']
    written = json.loads((tmp_path / 'samples.jsonl').read_text('utf-8'))
    assert 'half of a character' in written['findings'][0][1]
    assert write_check_page([report], tmp_path / 'report.html', title='T').exists()


def test_the_page_shows_findings_and_escapes_them(tmp_path: Path) -> None:
    meta = meta_of(tmp_path, [dict(conversations=talk('Q </s> <script>', 'A'))])
    reports = check_all(ChatChecker(meta), tmp_path / 'samples.jsonl')
    page = write_check_page(reports, tmp_path / 'report.html', title='T').read_text()
    assert 'special token: 1 sample, used as they are' in page
    assert 'message 1 writes &lt;/s&gt;' in page


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('<box>[[1, 2, 3, 4], [0, 0, 1000, 1000]]</box>', None),
        ('no box', None),
        ('<box>[[1, 2, 3]]</box>', "'[[1, 2, 3]]' is no list of boxes [x1, y1, x2, y2]"),
        ('<box>[1, 2, 3, 4]</box>', "'[1, 2, 3, 4]' is no list of boxes [x1, y1, x2, y2]"),
        ('<box>left</box>', "'left' is no list of boxes [x1, y1, x2, y2]"),
        (
            '<box>[[0.1, 0.2, 0.3, 0.4]]</box>',
            '[0.1, 0.2, 0.3, 0.4] is not within whole numbers from 0 to 1000',
        ),
        ('<box>[[1, 2, -3, 4]]</box>', '[1, 2, -3, 4] is not within whole numbers from 0 to 1000'),
        ('<box>[[5, 2, 5, 4]]</box>', '[5, 2, 5, 4] has no area: x1 < x2 and y1 < y2 are needed'),
        ('<ref>x', '1 <ref> for 0 </ref>'),
    ],
)
def test_boxes(text: str, problem: str | None) -> None:
    assert list(check_boxes(text)) == ([problem] if problem else [])


def test_histograms() -> None:
    bars = [(bar.label, bar.count, bar.share) for bar in length_bars([1, 5, 6, 7, 20])]
    assert bars == [
        ('1 – 1', 1, pytest.approx(100 / 3)), ('2 – 3', 0, 0), ('4 – 7', 3, 100), ('8 – 15', 0, 0),
        ('16 – 31', 1, pytest.approx(100 / 3)),
    ]  # fmt: skip
    assert [(bar.label, bar.count) for bar in count_bars([0, 2, 2])] == [('0', 1), ('1', 0), ('2', 2)]
    assert [bar.label for bar in count_bars([0, 40])][:2] == ['0 – 2', '3 – 5']
    assert length_bars([]) == count_bars([]) == []


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    meta = meta_of(tmp_path, [dict(conversations=talk('Q', 'A'))])
    with pytest.raises(DataError, match='cannot be written'):
        check_all(ChatChecker(meta), tmp_path / 'gone' / 'samples.jsonl')
