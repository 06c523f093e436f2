"""JSONL, tables and shards give the same samples."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import datasets as hf
import pytest

from internvl_mm.data.chat_records import parse_record
from internvl_mm.data.datasets.chat_sources import open_source
from internvl_mm.utils.errors import DataError
from tests.cases import image_bytes
from tests.chat_cases import talk, write_jsonl

ONE, TWO = image_bytes(1), image_bytes(2)


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def write_shards(folder: Path) -> str:
    for number in range(2):
        with tarfile.open(folder / f's-{number}.tar', 'w') as archive:
            pair = dict(conversations=talk(f'<image><image>{number}', 'A'), image=['not', 'read'])
            for index in (10, 9):
                add(archive, f'p{number}.{index}.png', ONE if index == 9 else TWO)
            add(archive, f'p{number}.json', json.dumps(pair).encode())
            add(archive, f't{number}.json', json.dumps(dict(conversations=talk('Q', 'A'))).encode())
    return str(folder / 's-{0..1}.tar')


def write_table(folder: Path) -> str:
    rows = [
        dict(conversations=talk('<image><image>0', 'A'), images=[dict(bytes=ONE), dict(bytes=TWO)], length=9),
        dict(conversations=talk('Q', 'A'), images=None, length=None),
    ]
    features = hf.Features(
        conversations=hf.List({'from': hf.Value('string'), 'value': hf.Value('string')}),
        images=hf.List(hf.Image()),
        length=hf.Value('int64'),
    )
    hf.Dataset.from_list(rows, features=features).to_parquet(folder / 'chat.parquet')
    return str(folder / 'chat.parquet')


@pytest.mark.parametrize('write', [write_shards, write_table])
def test_pictures_travel_as_bytes_in_order(tmp_path: Path, write) -> None:
    source = open_source(write(tmp_path))
    assert len(source) == (4 if write is write_shards else 2)
    pair, text = parse_record(source[0]), parse_record(source[1])
    assert (pair.images, pair.turns) == ((ONE, TWO), (('<image><image>0', 'A'),))
    assert (text.images, text.turns) == ((), (('Q', 'A'),))


@pytest.mark.parametrize(
    'texts', [dict(question='<image>?', chosen='A', rejected='B'), dict(question='<image>?', answer='A')]
)
def test_tables_of_preferences_and_of_questions(tmp_path: Path, texts: dict[str, str]) -> None:
    sources = []
    for number, change in enumerate((texts, {**texts, 'question': '<image> And?'})):
        table = hf.Dataset.from_list([dict(image=dict(bytes=ONE), **change)])
        table.cast_column('image', hf.Image()).to_parquet(tmp_path / f'{number}.parquet')
        sources.append(open_source(str(tmp_path / f'{number}.parquet')))
    assert sources[0][0] == dict(image=[ONE], **texts)
    # By every text that counts: kept plans and cached features are of these rows.
    assert sources[0].signature() != sources[1].signature()


def test_rows_of_a_table_may_name_roles_either_way(tmp_path: Path) -> None:
    roles = [dict(role='user', content='Q'), dict(role='assistant', content='A')]
    rows = [dict(conversations=talk('Q', 'A')), dict(conversations=roles)]
    hf.Dataset.from_list(rows).to_parquet(tmp_path / 'both.parquet')
    source = open_source(str(tmp_path / 'both.parquet'))
    assert set(source[0]['conversations'][0]) == {'from', 'value', 'role', 'content'}
    assert [parse_record(source[row]).turns for row in range(2)] == [(('Q', 'A'),)] * 2


def test_places_are_told(tmp_path: Path) -> None:
    assert open_source(write_table(tmp_path)).path(1).endswith('chat.parquet[1]')
    assert open_source(write_shards(tmp_path)).path(3).endswith('s-1.tar/t1')


def test_lines_are_read_one_by_one_and_blank_ones_passed_over(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / 'a.jsonl', [dict(x='é'), '', dict(x=2), '{broken'])
    source = open_source(file)
    assert (len(source), source[0], source[1]) == (3, dict(x='é'), dict(x=2))
    with pytest.raises(DataError, match=r'b\.jsonl:1: a sample is list \[1\] instead of an object'):
        open_source(write_jsonl(tmp_path / 'b.jsonl', ['[1]']))[0]
    assert [source.path(index).rpartition(':')[2] for index in range(3)] == ['1', '3', '4']
    with pytest.raises(DataError, match=r'a\.jsonl:4: not JSON'):
        source[2]


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'none of \.jsonl, \.tar'):
        open_source('data.json')
    with pytest.raises(DataError, match='cannot be read .*check the paths of the meta file'):
        open_source(str(tmp_path / 'gone.jsonl'))
    with pytest.raises(DataError, match='holds no sample'):
        open_source(write_jsonl(tmp_path / 'a.jsonl', []))
    with pytest.raises(DataError, match='missing, damaged, or not an uncompressed tar'):
        open_source(str(tmp_path / 'gone.tar'))
    with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
        add(archive, 'x.png', ONE)
    with pytest.raises(DataError, match=r"a\.tar/x: has \['png'\] but no \.json"):
        open_source(str(tmp_path / 'a.tar'))
    with tarfile.open(tmp_path / 'b.tar', 'w') as archive:
        add(archive, 'x.json', b'{')
    with pytest.raises(DataError, match=r'b\.tar/x: not JSON'):
        open_source(str(tmp_path / 'b.tar'))[0]
    with tarfile.open(tmp_path / 'c.tar', 'w') as archive:
        for name in ('v1.5_0001.json', 'v1.5_0002.json'):
            add(archive, name, json.dumps(dict(conversations=talk('Q', 'A'))).encode())
    with pytest.raises(DataError, match=r'c\.tar/v1: has 2 \.json, .*it may not hold a dot'):
        open_source(str(tmp_path / 'c.tar'))
    hf.Dataset.from_dict(dict(text=['x'])).to_parquet(tmp_path / 'b.parquet')
    with pytest.raises(
        DataError, match='needs the columns conversations, or .* question and answer; it has text'
    ):
        open_source(str(tmp_path / 'b.parquet'))
