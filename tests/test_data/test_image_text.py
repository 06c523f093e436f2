"""Image–text pairs: every published form, filters, negatives, bad pairs."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch

from internvl_mm.data.captions import CleanCaption, Pair, PairFilter, TextTable, read_pairs
from internvl_mm.data.datasets import (
    CaptionListDataset,
    CaptionShardDataset,
    CaptionTableDataset,
    DigitCaptionDataset,
    DigitSceneDataset,
)
from internvl_mm.data.digit_scenes import DigitSceneSettings, write_digit_scenes
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import ConfigError, DataError
from tests.cases import image_bytes

ROWS = [
    dict(image='0.png', caption='A red 3.', image_id=0, language='en', similarity=0.4, width=20, height=16),
    dict(image='0.png', caption='一个红色的3。', image_id=0, language='zh', similarity=0.1),
    dict(image='1.png', caption='Two words', image_id=1, language='en', similarity=0.3),
]


def images(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for shade in range(2):
        (folder / f'{shade}.png').write_bytes(image_bytes(shade))
    return folder


def jsonl(folder: Path, rows: list[dict]) -> str:
    (folder / 'pairs.jsonl').write_text('\n'.join(json.dumps(row) for row in rows), 'utf-8')
    return str(folder / 'pairs.jsonl')


def listed(folder: Path, rows: list[dict] = ROWS, **options) -> CaptionListDataset:
    return CaptionListDataset(str(images(folder)), jsonl(folder, rows), name='toy', **options)


def test_a_sample_carries_caption_and_image_number(tmp_path: Path) -> None:
    dataset = listed(tmp_path)
    samples = [dataset[index]['data_samples'] for index in range(3)]
    assert [sample.caption for sample in samples] == ['A red 3.', '一个红色的3。', 'Two words']
    assert samples[0].image_id == samples[1].image_id != samples[2].image_id
    assert dataset[0]['inputs'].shape == (3, 16, 20) and dataset[0]['inputs'].dtype == torch.uint8
    assert dataset.fingerprint() != listed(tmp_path, ROWS[:2]).fingerprint()


def test_published_forms_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    coco = dict(
        images=[dict(id=7, file_name='0.png'), dict(id=8, file_name='1.png')],
        annotations=[dict(id=1, image_id=7, caption='A red 3.'), dict(id=2, image_id=8, caption='Two words')],
    )
    karpathy = [
        dict(image='0.png', caption=['A red 3.'], image_id='coco_7'),
        dict(image='1.png', caption='Two words', image_id='coco_8'),
    ]
    files = dict(coco=json.dumps(coco), karpathy=json.dumps(karpathy))
    for name, text in files.items():
        (tmp_path / f'{name}.json').write_text(text)
        pairs = list(read_pairs(tmp_path / f'{name}.json'))
        assert [(pair.image, pair.caption) for pair in pairs] == [
            ('0.png', 'A red 3.'),
            ('1.png', 'Two words'),
        ]
    assert 'no caption' not in capsys.readouterr().out
    (tmp_path / 'coco.json').write_text(json.dumps(dict(coco, annotations=coco['annotations'][:1])))
    assert [pair.image for pair in read_pairs(tmp_path / 'coco.json')] == ['0.png']
    said = ' '.join(capsys.readouterr().out.split())
    assert said.endswith('coco.json: 1 of 2 images have no caption and are left out')
    (tmp_path / 'flickr.txt').write_text('image,caption\n12.jpg,One, two.\n12.jpg,Three\n')
    pairs = list(read_pairs(tmp_path / 'flickr.txt'))
    assert [(pair.image, pair.caption, pair.image_id) for pair in pairs] == [
        ('12.jpg', 'One, two.', '12'),
        ('12.jpg', 'Three', '12'),
    ]


def test_rows_without_an_id_are_images_of_their_own(tmp_path: Path) -> None:
    for none in (None, ''):
        rows = [dict(image=f'{n}.png', caption=f'c{n}', image_id=none) for n in range(2)]
        assert len(set(listed(tmp_path, rows).image_ids)) == 2
    members = {
        f'{n}.{kind}': part
        for n in range(2)
        for kind, part in dict(png=image_bytes(n), json=json.dumps(rows[n]).encode()).items()
    }
    assert len(set(CaptionShardDataset(write_shard(tmp_path, members)).image_ids)) == 2
    cells = [dict(bytes=image_bytes(shade), path=None) for shade in range(2)]
    table = pyarrow.table(
        dict(image=cells, caption=['one', 'two'], image_id=pyarrow.array([None, None], 'int64'))
    )
    pyarrow.parquet.write_table(table, tmp_path / 'ids.parquet')
    assert len(set(CaptionTableDataset(str(tmp_path / 'ids.parquet')).image_ids)) == 2


def test_a_list_of_captions_is_as_many_pairs_and_no_other_thing_is_a_caption(tmp_path: Path) -> None:
    cells = [dict(bytes=image_bytes(shade), path=None) for shade in range(2)]
    table = pyarrow.table(dict(image=cells, caption=[['one', 'two'], ['three']]))
    pyarrow.parquet.write_table(table, tmp_path / 'lists.parquet')
    members = {
        '0.png': image_bytes(0), '0.json': b'{"caption": ["one", "two"]}',
        '1.png': image_bytes(1), '1.json': b'{"caption": ["three"]}',
    }  # fmt: skip
    for dataset in (
        CaptionTableDataset(str(tmp_path / 'lists.parquet')),
        CaptionShardDataset(write_shard(tmp_path, members)),
    ):
        assert [item['data_samples'].caption for item in dataset] == ['one', 'two', 'three']
        assert dataset.image_ids.tolist() == [0, 0, 1]
        assert torch.equal(dataset[0]['inputs'], dataset[1]['inputs'])
    rows = [dict(image='0.png', caption={'en': 'one'})]
    with pytest.raises(DataError, match=r"entry 0: its caption is \{'en': 'one'\}: give a text"):
        listed(tmp_path, rows)
    with pytest.raises(DataError, match=r"s-0.tar/0: its caption is \['x'\]: give a text"):
        CaptionShardDataset(
            write_shard(tmp_path, {'0.png': image_bytes(0), '0.json': b'{"caption": [["x"]]}'})
        )


def test_what_the_converter_writes_is_read(tmp_path: Path) -> None:
    scenes = write_digit_scenes(tmp_path / 'scenes', settings=DigitSceneSettings(train_size=3, test_size=2))
    found = {
        name: len(list(read_pairs(scenes / 'captions' / name)))
        for name in (
            'pairs_test.jsonl',
            'karpathy_test_zh.json',
            'captions_test_en.json',
            'flickr_test_en.txt',
        )
    }
    assert set(found.values()) == {10, 20} and found['pairs_test.jsonl'] == 20
    dataset = CaptionListDataset(str(scenes), str(scenes / 'captions' / 'pairs_test.jsonl'))
    assert dataset[0]['data_samples'].caption


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"caption": "x"}', "entry 0: a caption without image: needs 'image'"),
        ('{"image": "0.png"}', "image '0.png' without text: needs 'caption'"),
        ('{', 'cannot be read as image–caption pairs'),
    ],
)
def test_image_without_text_and_the_reverse_are_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / 'pairs.jsonl').write_text(text)
    with pytest.raises(DataError, match=message):
        list(read_pairs(tmp_path / 'pairs.jsonl'))


def test_other_damaged_files_are_told(tmp_path: Path) -> None:
    (tmp_path / 'x.txt').write_text('head\nno picture here\n')
    with pytest.raises(DataError, match="line 2: 'no picture here' is not '<name>.jpg,<caption>'"):
        list(read_pairs(tmp_path / 'x.txt'))
    (tmp_path / 'x.json').write_text('{"images": []}')
    with pytest.raises(DataError, match='not COCO captions'):
        list(read_pairs(tmp_path / 'x.json'))


def test_an_empty_caption_is_a_bad_sample_or_left_out(tmp_path: Path, capsys) -> None:
    rows = [*ROWS, dict(image='1.png', caption=' ', image_id=1)]
    assert len(listed(tmp_path, [dict(image='1.png', caption=[])], on_error='skip')) == 1
    with pytest.raises(DataError, match=r'1.png: image without text.*filter=dict\(type=PairFilter\)'):
        listed(tmp_path, rows)[3]
    bad = listed(tmp_path, rows, on_error='skip')[3]
    assert isinstance(bad, BadSample) and 'image without text' in bad.reason
    assert listed(tmp_path, rows, on_error='replace')[3]['bad_samples'][0].index == 3
    assert len(listed(tmp_path, rows, filter=dict(type=PairFilter))) == 3
    assert 'toy: left out 1 of 4 pairs: 1 without caption' in ' '.join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ('settings', 'kept'),
    [
        (dict(languages=('zh',)), [1]),
        (dict(min_score=0.3), [0, 2]),
        (dict(min_words=3), [0, 1]),
        (dict(max_words=2), [2]),
        (dict(min_side=17), [1, 2]),
        (dict(max_aspect=1.1), [1, 2]),
    ],
)
def test_filters(tmp_path: Path, settings: dict, kept: list[int]) -> None:
    dataset = listed(tmp_path, filter=PairFilter(**settings))
    assert list(dataset.captions) == [ROWS[index]['caption'] for index in kept]


def test_filters_that_cannot_be_right_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no caption is in language 'cn'; there are en, zh"):
        listed(tmp_path, filter=PairFilter(languages=('cn',)))
    with pytest.raises(DataError, match=r"1\.png: similarity='n/a' is no number, and PairFilter compares it"):
        PairFilter(min_score=0.1).reason(Pair('1.png', 'a cat', '1', dict(similarity='n/a')))
    with pytest.raises(DataError, match='width=nan is no number'):
        PairFilter().reason(Pair('1.png', 'a cat', '1', dict(width=float('nan'), height=3)))
    with pytest.raises(DataError, match='the filter leaves no pair of 3'):
        listed(tmp_path, filter=PairFilter(min_score=9.0))
    with pytest.raises(ConfigError, match='max_words=1 is below min_words=2'):
        PairFilter(min_words=2, max_words=1)


def test_negatives_are_of_other_images_and_drawn_anew_each_epoch(tmp_path: Path) -> None:
    dataset = listed(tmp_path, with_negative=True)
    drawn = {dataset[SampleIndex(2, epoch)]['data_samples'].negative for epoch in range(20)}
    assert drawn == {'A red 3.', '一个红色的3。'}
    assert dataset[SampleIndex(0, 3)]['data_samples'].negative == 'Two words'
    with pytest.raises(DataError, match='one image only'):
        listed(tmp_path, ROWS[:2], with_negative=True)


def test_captions_that_cleaning_empties_are_no_negatives(tmp_path: Path) -> None:
    rows = [*ROWS, dict(image='1.png', caption='...', image_id=1)]
    dataset = listed(tmp_path, rows, with_negative=True, caption_transform=CleanCaption())
    drawn = {dataset[SampleIndex(0, epoch)]['data_samples'].negative for epoch in range(20)}
    assert drawn == {'two words'}
    with pytest.raises(DataError, match='image without text'):
        dataset[3]


def test_negatives_of_drawn_captions_are_of_the_same_epoch() -> None:
    dataset = DigitCaptionDataset('train', with_negative=True, length=2)
    for epoch in range(5):
        other = dataset[SampleIndex(1, epoch)]['data_samples'].caption
        assert dataset[SampleIndex(0, epoch)]['data_samples'].negative == other


def test_lines_end_at_line_breaks_alone(tmp_path: Path) -> None:
    text = json.dumps(dict(image='0.png', caption='one\u2028two'), ensure_ascii=False)
    (tmp_path / 'pairs.jsonl').write_text(f'{text}\n{text}\n', 'utf-8')
    (tmp_path / 'pairs.txt').write_text('image,caption\n0.jpg,one\u2028two\n', 'utf-8')
    for name, count in (('pairs.jsonl', 2), ('pairs.txt', 1)):
        assert [pair.caption for pair in read_pairs(tmp_path / name)] == ['one\u2028two'] * count


def test_cleaning_is_the_published_rule() -> None:
    assert CleanCaption()('A  "Big" (red) dog: runs!  ') == 'a big red dog runs'
    assert CleanCaption(max_words=2)('one two three') == 'one two'


def test_paths_stay_below_the_root(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='leads out of the root folder'):
        listed(tmp_path, [dict(image='../0.png', caption='x')])


def write_shard(folder: Path, members: dict[str, bytes]) -> str:
    with tarfile.open(folder / 's-0.tar', 'w') as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return str(folder / 's-{0..0}.tar')


def test_shards_with_text_or_json(tmp_path: Path) -> None:
    row = json.dumps(dict(caption='from json', width=20, height=16, image_id='k')).encode()
    members = {'a.png': image_bytes(0), 'a.txt': b'from text', 'b.png': image_bytes(1), 'b.json': row}
    dataset = CaptionShardDataset(write_shard(tmp_path, members))
    assert [item['data_samples'].caption for item in dataset] == ['from text', 'from json']
    assert dataset[1]['inputs'].shape == (3, 16, 20) and dataset.path(1).endswith('s-0.tar/b.png')


def test_incomplete_pairs_of_shards_are_bad_samples(tmp_path: Path) -> None:
    shards = write_shard(
        tmp_path, {'a.png': image_bytes(0), 'b.txt': b'text alone', 'c.png': image_bytes(1), 'c.txt': b'x'}
    )
    dataset = CaptionShardDataset(shards, on_error='skip')
    reasons = [item.reason if isinstance(item, BadSample) else 'good' for item in dataset]
    assert ['without text' in reasons[0], 'text without image' in reasons[1], reasons[2]] == [
        True,
        True,
        'good',
    ]
    with pytest.raises(DataError, match='do not exist'):
        CaptionShardDataset('none-{0..3}.tar')
    for content in (b'[1]', b'{', b'5'):
        with pytest.raises(DataError, match='s-0.tar/d: its text is damaged'):
            CaptionShardDataset(write_shard(tmp_path, {'d.png': image_bytes(0), 'd.json': content}))


def test_tables(tmp_path: Path) -> None:
    cells = [dict(bytes=image_bytes(shade), path=None) for shade in range(2)]
    table = pyarrow.table(dict(image=cells, caption=['one', 'two two'], language=['en', 'zh']))
    pyarrow.parquet.write_table(table, tmp_path / 'data.parquet')
    path = str(tmp_path / 'data.parquet')
    dataset = CaptionTableDataset(path)
    assert [item['data_samples'].caption for item in dataset] == ['one', 'two two']
    kept = CaptionTableDataset(path, filter=PairFilter(languages=('zh',)))
    assert len(kept) == 1 and torch.equal(kept[0]['inputs'], dataset[1]['inputs'])
    with pytest.raises(DataError, match="caption_column='captoin' is not among.*Did you mean 'caption'"):
        CaptionTableDataset(path, caption_column='captoin')


def test_digit_captions_are_true_and_their_pictures_those_of_the_digits() -> None:
    pairs, digits = DigitCaptionDataset('test', kinds=(1,)), DigitSceneDataset('test')
    for index in (0, 5, 359):
        item, same = pairs[index], digits[index]
        value = int(item['data_samples'].gt_label)
        assert item['data_samples'].caption == f'The picture shows one digit: {value}.'
        assert torch.equal(item['inputs'], same['inputs']) and value == int(same['data_samples'].gt_label)
    train = DigitCaptionDataset('train', languages=('en', 'zh'))
    captions = [train[SampleIndex(3, epoch)]['data_samples'].caption for epoch in range(12)]
    assert len(set(captions)) > 4 and any(ord(text[0]) > 255 for text in captions)
    assert train[SampleIndex(3, 5)]['data_samples'].caption == captions[5]


def test_unknown_languages_and_kinds_are_told() -> None:
    with pytest.raises(ConfigError, match="no texts in 'cn', only in en and zh"):
        DigitCaptionDataset('test', languages=('cn',))
    with pytest.raises(ConfigError, match='name at least one of en and zh'):
        DigitCaptionDataset('test', languages=())
    with pytest.raises(ConfigError, match='length=0 is not possible'):
        DigitCaptionDataset('test', length=0)
    with pytest.raises(ConfigError, match='choose from the five captions'):
        DigitCaptionDataset('test', kinds=(5,))


def test_texts_in_one_array() -> None:
    table = TextTable(['', 'ab', '照片'])
    assert list(table) == ['', 'ab', '照片'] and table[1:] == ['ab', '照片']


def test_a_data_set_needs_pairs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'toy' has no pairs"):
        listed(tmp_path, [])
