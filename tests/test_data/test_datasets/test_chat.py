"""Chat data sets, the mixture of a meta file, and packs of it, on the embedded data set."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from internvl_mm.data import EpochSampler, SampleIndex
from internvl_mm.data.collate_chat import collate_chat, collate_packed
from internvl_mm.data.datasets import ChatDataset, ChatMixture, PackedChatDataset
from internvl_mm.data.datasets.meta_mixture import read_meta
from internvl_mm.data.datasets.preferences import PreferenceDataset
from internvl_mm.data.decode import ImageDecoder
from internvl_mm.preprocess import ChatDataPreprocessor, RandomFrames
from internvl_mm.structures import IGNORE, BadSample
from internvl_mm.utils.errors import ConfigError, DataError
from tests.chat_cases import TOKENS_PER_TILE, bad_lines, digit_scenes, encoder, talk, write_image, write_jsonl


@pytest.fixture(scope='module')
def meta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digit_scenes(tmp_path_factory.mktemp('chat') / 'digits')


@pytest.fixture(scope='module')
def mixture(meta: Path) -> ChatMixture:
    return ChatMixture(str(meta), encoder())


def test_the_embedded_data_is_read_whole(mixture: ChatMixture) -> None:
    assert mixture.counts == {
        'digit_scenes_single_en': 8,
        'digit_scenes_single_zh': 8,
        'digit_scenes_pair_en': 4,
        'digit_scenes_pair_zh': 4,
        'digit_scenes_video_en': 1,
        'digit_scenes_video_zh': 1,
        'digit_scenes_text_en': 2,
        'digit_scenes_text_zh': 2,
    }
    for index in range(len(mixture)):
        sample = mixture[index]['inputs']
        context = int((sample.input_ids == 3).sum())  # <IMG_CONTEXT> of the test tokenizer
        assert context == TOKENS_PER_TILE * len(sample.tiles) == TOKENS_PER_TILE * sum(sample.num_tiles)
        assert (sample.labels != IGNORE).any()
        tokens, tiles = mixture.sizes()[index].tolist()
        assert (tokens, tiles) == (len(sample), len(sample.tiles)) or 'video' in sample.dataset
        assert tokens >= len(sample)


def test_each_kind_of_sample(mixture: ChatMixture) -> None:
    by_name = {mixture[index]['inputs'].dataset: mixture[index]['inputs'] for index in range(len(mixture))}
    assert by_name['digit_scenes_text_en'].tiles.shape == (0, 3, 28, 28)
    assert by_name['digit_scenes_single_en'].num_tiles in ((5,), (7,), (3,), (1,))
    assert len(by_name['digit_scenes_pair_en'].num_tiles) == 2
    video = by_name['digit_scenes_video_en']
    assert set(video.num_tiles) == {1}
    text = mixture.datasets[0].encoder.tokenizer.decode(video.input_ids)
    assert all(f'Frame-{number}: <img>' in text for number in range(1, len(video.num_tiles) + 1))


@pytest.mark.parametrize(
    ('style', 'lines'),
    [('inference', ['Frame1: ', 'Frame2: ', '']), ('preference', ['Frame1: ', 'Frame2: '])],
)
def test_frames_of_preferences_end_without_a_line_break(tmp_path: Path, style: str, lines: list[str]) -> None:
    folder = tmp_path / 'clip'
    folder.mkdir()
    for number in (1, 2):
        write_image(folder / f'{number:05}.jpg')
    line = dict(video=f'{folder}/', conversations=talk('<video>\nWhat moves?', 'it'))
    made = encoder(frame_prefix=style, frames=RandomFrames(2, 2))
    dataset = ChatDataset(write_jsonl(tmp_path / 'a.jsonl', [line]), made)
    text = made.tokenizer.decode(dataset[0]['inputs'].input_ids)
    shown = re.sub(r'<img>.*?</img>', '', text[text.index('Frame1') : text.index('What moves')])
    assert shown == '\n'.join(lines)
    assert len(dataset[0]['inputs']) <= dataset.measure(0)[0]


@pytest.mark.parametrize('overlong', ['refuse', 'drop', 'truncate'])
def test_videos_take_as_many_frames_as_fit(tmp_path: Path, overlong: str) -> None:
    (tmp_path / 'v').mkdir()
    for number in range(40):
        write_image(tmp_path / 'v' / f'{number}.png')
    line = dict(video='v/', conversations=talk('What moves?', 'it'))
    file = write_jsonl(tmp_path / 'a.jsonl', [line])
    options = dict(frames=RandomFrames(2, 32), max_length=200, overlong=overlong)
    dataset = ChatDataset(file, encoder(**options), root=str(tmp_path))
    tokens, most = dataset.measure(0)
    assert 2 < most < 32 and 185 < tokens <= 200
    samples = [dataset[SampleIndex(0, epoch, 3)]['inputs'] for epoch in range(20)]
    assert all(len(sample) <= tokens for sample in samples)
    assert len({len(sample.tiles) for sample in samples}) > 2
    # Both answers of a preference have the same frames, as many as fit the longer one too.
    line = dict(video='v/', question='What moves?', chosen='it', rejected='it ' * 60)
    pairs = PreferenceDataset(
        write_jsonl(tmp_path / 'p.jsonl', [line]), encoder(**options), root=str(tmp_path)
    )
    for epoch in range(5):
        chosen, rejected = pairs[SampleIndex(0, epoch, 3)]['inputs']
        assert torch.equal(chosen.tiles, rejected.tiles) and len(rejected) <= pairs.measure(0)[0]


def test_random_choices_follow_seed_epoch_and_index(meta: Path) -> None:
    mixture = ChatMixture(str(meta), encoder(frames=RandomFrames(1, 4)))
    video = next(index for index in range(len(mixture)) if 'video' in mixture.path(index))
    again = [mixture[SampleIndex(video, epoch, 3)]['inputs'] for epoch in (0, 0, 1, 2, 3, 4)]
    assert torch.equal(again[0].tiles, again[1].tiles)
    assert any(
        again[0].tiles.shape != other.tiles.shape or (again[0].tiles != other.tiles).any() for other in again
    )


def test_repeats_caps_and_weights(meta: Path, tmp_path: Path) -> None:
    content = json.loads(meta.read_text())
    for entry in content.values():
        entry.update(root=str(meta.parent.parent), annotation=str(meta.parent / entry['annotation']))
    names = list(content)
    content[names[0]]['repeat_time'] = 0.5
    content[names[1]].update(repeat_time=3, max_dynamic_patch=1, data_augment=True)
    (tmp_path / 'meta.json').write_text(json.dumps(dict(list(content.items())[:4])))
    build = lambda **options: ChatMixture(str(tmp_path / 'meta.json'), encoder(), **options)  # noqa: E731
    plain = build()
    assert list(plain.counts.values()) == [4, 24, 4, 4]
    assert [plain.locate(index)[1] for index in range(4)] == [0, 1, 2, 3]  # the head of the file
    mixed = build(caps={names[1]: 5}, weights={names[2]: 2.5, names[3]: 0})
    assert list(mixed.counts.values()) == [4, 5, 10, 0]
    rows = [mixed.locate(index)[1] for index in range(9, 19)]
    assert sorted(rows.count(row) for row in range(4)) == [2, 2, 3, 3]
    assert build(caps={names[1]: 5}).fingerprint() == build(caps={names[1]: 5}).fingerprint()
    assert build(caps={names[1]: 5}, seed=1).fingerprint() != build(caps={names[1]: 5}).fingerprint()
    assert plain[5]['inputs'].num_tiles == (1,)  # its own number of tiles
    assert plain.metainfo['mixture'] == plain.counts
    # a row that is repeated is degraded anew
    assert plain.locate(4)[1] == plain.locate(12)[1]
    assert (plain[4]['inputs'].tiles != plain[12]['inputs'].tiles).any()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(annotation=None), "needs 'annotation'"),
        (dict(repeat_time=0), 'repeat_time=0 has to be a number above 0'),
        (dict(repeat_time=1.5), 'repeat_time=1.5 above 1 has to be whole'),
        (dict(max_dynamic_patch=0), 'max_dynamic_patch=0 has to be'),
        (dict(max_dynamic_patch=True), 'max_dynamic_patch=True has to be a whole number'),
        (dict(data_augment='false'), "data_augment='false' has to be true or false"),
        (dict(repeat_times=2), r"'repeat_times' is no setting; .* Did you mean 'repeat_time'"),
        (dict(max_dynamic_patches=2), "'max_dynamic_patches' is no setting"),
        (dict(annotation='x.csv'), r"annotation 'x.csv' has to end in \.jsonl"),
    ],
)
def test_mistakes_in_the_meta_file_are_told(tmp_path: Path, change: dict, message: str) -> None:
    entry = dict(root='', annotation=write_jsonl(tmp_path / 'a.jsonl', [dict(conversations=talk('Q', 'A'))]))
    (tmp_path / 'meta.json').write_text(json.dumps(dict(toy={**entry, **change})))
    with pytest.raises(DataError, match=f"data set 'toy': {message}"):
        ChatMixture(str(tmp_path / 'meta.json'), encoder())


def test_a_name_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    entry = '{"annotation": "a.jsonl"}'
    (tmp_path / 'meta.json').write_text(f'{{"toy": {entry}, "toy": {entry}}}')
    with pytest.raises(DataError, match=r"'toy' is given 2 times; give each a name of its own"):
        read_meta(tmp_path / 'meta.json')


def test_settings_of_other_trainers_are_told_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    entry = dict(root='', annotation='a.jsonl', data_augment=True, repeat_time=1, length=3)
    entry.update(max_dynamic_patch=6, min_dynamic_patch=1, conv_style='internlm2-chat')
    (tmp_path / 'meta.json').write_text(json.dumps(dict(toy=entry)))
    assert read_meta(tmp_path / 'meta.json')[0].data_augment
    told = ''.join(capsys.readouterr())
    assert "'conv_style' is not read" in told and "'min_dynamic_patch' is not read" in told
    assert "'length'" not in told


def test_paths_of_shards_are_looked_for_beside_the_meta_file_too(tmp_path: Path) -> None:
    (tmp_path / 'part-0.tar').touch()
    entry = dict(annotation='part-{0..3}.tar')
    (tmp_path / 'meta.json').write_text(
        json.dumps(dict(toy=entry, elsewhere=dict(annotation='x-{0..1}.tar')))
    )
    toy, elsewhere = read_meta(tmp_path / 'meta.json')
    assert (toy.annotation, elsewhere.annotation) == (f'{tmp_path}/part-{{0..3}}.tar', 'x-{0..1}.tar')


def test_other_mistakes_of_mixtures(tmp_path: Path, meta: Path) -> None:
    (tmp_path / 'meta.json').write_text('[]')
    with pytest.raises(DataError, match='has to be an object from names'):
        ChatMixture(str(tmp_path / 'meta.json'), encoder())
    with pytest.raises(DataError, match='cannot be read as JSON'):
        ChatMixture(str(tmp_path / 'gone.json'), encoder())
    with pytest.raises(ConfigError, match="weights names 'digit_scenes_single_e'.*Did you mean"):
        ChatMixture(str(meta), encoder(), weights={'digit_scenes_single_e': 2})
    with pytest.raises(ConfigError, match=r"caps\['digit_scenes_single_en'\]=-1"):
        ChatMixture(str(meta), encoder(), caps={'digit_scenes_single_en': -1})
    with pytest.raises(DataError, match='leave no sample'):
        ChatMixture(str(meta), encoder(), weights=dict.fromkeys(json.loads(meta.read_text()), 0))


CASES = [
    'fewer placeholders', 'more placeholders', 'placeholder without image', 'empty conversation', 'no conversation',
    'unknown role', 'role is no text', 'conversation is a number', 'half a character', 'half a character in a path',
    'not alternating', 'open end', 'empty answer', 'missing image', 'broken image', 'bomb',
    'missing video', 'video without frames', 'clip outside', 'clip reversed', 'image and video', 'too long',
    'text is no text',
]  # fmt: skip


@pytest.mark.parametrize('name', CASES)
def test_bad_samples_stop_the_run_or_are_recorded(tmp_path: Path, name: str) -> None:
    cases = bad_lines(tmp_path)
    assert list(cases) == CASES
    line, message = cases[name]
    good = dict(image='ok.png', conversations=talk('Q', 'A'))
    file = write_jsonl(tmp_path / 'a.jsonl', [good, line])
    strict = encoder(decoder=ImageDecoder(max_pixels=50_000))
    with pytest.raises(DataError) as error:
        ChatDataset(file, strict, root=str(tmp_path))[1]
    assert message in str(error.value)
    assert str(error.value).startswith(f'{file}:2: ')
    skipped = ChatDataset(file, strict, root=str(tmp_path), on_error='skip', name='toy')[1]
    assert isinstance(skipped, BadSample)
    assert (skipped.dataset, skipped.index, skipped.path) == ('toy', 1, f'{file}:2')
    assert message in skipped.reason
    replaced = ChatDataset(file, strict, root=str(tmp_path), on_error='replace')[1]
    assert replaced['inputs'].index == 0
    assert len(replaced['bad_samples']) == 1


def test_an_error_in_a_pack_names_the_sample_that_is_bad(tmp_path: Path) -> None:
    for number in range(3):
        write_image(tmp_path / f'{number}.png')
    lines = [dict(image=f'{n}.png', conversations=talk('<image>\nQ', 'A')) for n in range(3)]
    dataset = ChatDataset(write_jsonl(tmp_path / 'chat.jsonl', lines), encoder(), root=str(tmp_path))
    packed = PackedChatDataset(dataset, max_tokens=600, max_tiles=20)
    members = list(packed.plan[0])
    (tmp_path / f'{members[1]}.png').write_bytes(b'no picture')
    with pytest.raises(DataError) as error:
        packed[0]
    assert dataset.path(members[1]) in str(error.value) and dataset.path(members[0]) not in str(error.value)


def test_long_samples_are_dropped_under_any_policy_when_told_so(tmp_path: Path) -> None:
    lines = [dict(conversations=talk('Q', 'A')), dict(conversations=talk('Q', 'long ' * 600))]
    file = write_jsonl(tmp_path / 'a.jsonl', lines)
    dataset = ChatDataset(file, encoder(overlong='drop'))
    assert 'more than max_length=600' in dataset[1].reason
    batch = collate_chat([dataset[0], dataset[1]])
    assert (len(batch['inputs']), len(batch['bad_samples'])) == (1, 1)
    packed = PackedChatDataset(dataset)
    assert [len(packed[0]['inputs']), len(packed[0]['bad_samples'])] == [1, 1]
    (tmp_path / 'meta.json').write_text(json.dumps(dict(toy=dict(annotation=file))))
    for policy in ('fail', 'replace'):
        mixture = ChatMixture(str(tmp_path / 'meta.json'), encoder(overlong='drop'), on_error=policy)
        assert isinstance(mixture[1], BadSample)
    pair = dict(question='Q', chosen='long ' * 600, rejected='A')
    preferences = PreferenceDataset(write_jsonl(tmp_path / 'p.jsonl', [pair]), encoder(overlong='drop'))
    assert 'p.jsonl:1: ' in preferences[0].reason and 'more than max_length=600' in preferences[0].reason


def test_a_video_with_a_clip(tmp_path: Path) -> None:
    (tmp_path / 'v').mkdir()
    for number in range(30):
        write_image(tmp_path / 'v' / f'{number}.png', shade=number * 8)
    file = write_jsonl(tmp_path / 'a.jsonl', [dict(video='v/', clip=[2, 4], conversations=talk('Q', 'A'))])
    sample = ChatDataset(file, encoder(), root=str(tmp_path))[0]['inputs']
    shades = sample.tiles[:, 0, 0, 0] // 8
    assert all(6 <= shade <= 12 for shade in shades)


def test_sizes_are_measured_in_parallel_and_kept(
    meta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ChatMixture(str(meta), encoder()).sizes()
    build = lambda workers=0, **options: ChatMixture(  # noqa: E731
        str(meta), encoder(**options), sizes_folder=str(tmp_path / 'sizes'), sizes_workers=workers
    )
    assert build(workers=1).sizes().tolist() == plain.tolist()
    files = sorted((tmp_path / 'sizes').iterdir())
    assert len(files) == 8
    monkeypatch.setattr(ChatDataset, 'measure', lambda self, row: pytest.fail('measured again'))
    assert build().sizes().tolist() == plain.tolist()
    monkeypatch.undo()
    files[0].write_bytes(b'damaged')
    assert build().sizes().tolist() == plain.tolist()
    # other settings, other sizes
    assert build(system_message='A longer message.').sizes()[0, 0] > plain[0, 0]
    assert len(list((tmp_path / 'sizes').iterdir())) == 16


def test_sizes_follow_the_annotation(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    for number, answer in enumerate(('A', 'A longer answer')):
        file = write_jsonl(
            tmp_path / 'a.jsonl', [dict(conversations=talk('Q', answer)), dict(conversations=[])]
        )
        dataset = ChatDataset(file, encoder())
        dataset.keep_sizes(str(tmp_path / 'sizes'))
        assert dataset.sizes()[1].tolist() == [-1, -1]
        assert len(list((tmp_path / 'sizes').iterdir())) == number + 1
    dataset = ChatDataset(file, encoder())
    dataset.keep_sizes(str(tmp_path / 'file'))
    with pytest.raises(DataError, match=r'npz cannot be written .*another sizes_folder'):
        dataset.sizes()


# packs


def test_packs_hold_every_sample_once_and_match_the_samples(mixture: ChatMixture) -> None:
    packed = PackedChatDataset(mixture, max_tokens=500, max_tiles=20, seed=4)
    assert sorted(packed.plan.members.tolist()) == list(range(len(mixture)))
    assert PackedChatDataset(mixture, max_tokens=500, max_tiles=20, seed=4).plan[0] == packed.plan[0]
    for pack in range(len(packed)):
        item = packed[pack]
        batch = collate_packed([item])['inputs']
        assert batch.input_ids.shape[1] <= 500
        assert len(batch.tiles) <= 20
        assert item['bad_samples'] == []
        bounds = batch.cu_seqlens.tolist()
        for number, (member, start, end) in enumerate(zip(packed.plan[pack], bounds, bounds[1:])):
            alone = mixture[member]['inputs']
            assert torch.equal(batch.input_ids[0, start:end], alone.input_ids)
            assert torch.equal(batch.labels[0, start:end], alone.labels)
            assert batch.position_ids[0, start:end].tolist() == list(range(end - start))
            assert set(batch.sample_ids[0, start:end].tolist()) == {number}
            assert batch.num_tiles[number] == len(alone.tiles)


def test_packs_resume_exactly_with_any_sampler(mixture: ChatMixture) -> None:
    packed = PackedChatDataset(mixture, max_tokens=500, max_tiles=20)

    def ids(skip: int) -> list:
        sampler = EpochSampler(packed, seed=5)
        sampler.skip(skip)
        loader = DataLoader(packed, sampler=sampler, collate_fn=collate_packed)
        return [batch['inputs'].input_ids.tolist() for batch in loader]

    assert ids(2) == ids(0)[2:]


def test_packs_leave_holes_for_bad_samples_and_report_each_once(tmp_path: Path) -> None:
    write_image(tmp_path / 'ok.png')
    good = dict(image='ok.png', conversations=talk('Q', 'A'))
    gone = dict(image='gone.png', width=56, height=28, conversations=talk('Q', 'A'))
    lines = [good, gone, dict(conversations=[]), good]
    dataset = ChatDataset(
        write_jsonl(tmp_path / 'a.jsonl', lines), encoder(), root=str(tmp_path), on_error='skip', name='toy'
    )
    packed = PackedChatDataset(dataset, max_tokens=250, max_tiles=9)
    items = [packed[pack] for pack in range(len(packed))]
    assert sum(len(item['inputs']) for item in items) == 2
    reports = [bad for item in items for bad in item['bad_samples']]
    assert sorted(bad.index for bad in reports) == [1, 2]
    assert [bad.path for bad in sorted(reports, key=lambda bad: bad.index)] == [
        dataset.path(1),
        dataset.path(2),
    ]


def test_packs_never_exceed_their_caps_whatever_annotations_promise(tmp_path: Path) -> None:
    write_image(tmp_path / 'ok.png')
    good = dict(image='ok.png', conversations=talk('Q', 'A'))  # 3 tiles
    wrong = dict(image='ok.png', width=28, height=28, conversations=talk('Q', 'A'))  # promises 1
    dataset = ChatDataset(
        write_jsonl(tmp_path / 'a.jsonl', [good, wrong, good]), encoder(), root=str(tmp_path)
    )
    packed = PackedChatDataset(dataset, max_tokens=250, max_tiles=7)
    assert len(packed) == 1
    item = packed[0]
    assert sorted(sample.index for sample in item['inputs']) == [0, 2]
    assert [bad.index for bad in item['bad_samples']] == [1]
    assert '3 tiles where its annotation promised' in item['bad_samples'][0].reason
    assert len(PackedChatDataset(dataset, max_tokens=250, max_tiles=9)[0]['inputs']) == 3


def test_packs_of_strict_data_refuse_what_fits_nowhere(tmp_path: Path) -> None:
    lines = [dict(conversations=talk('Q', 'A')), dict(conversations=talk('Q', 'word ' * 100))]
    dataset = ChatDataset(write_jsonl(tmp_path / 'a.jsonl', lines), encoder())
    with pytest.raises(
        DataError, match=r'1 of 2 samples fit in no pack, for example: \d+ tokens and 0 tiles are more'
    ):
        PackedChatDataset(dataset, max_tokens=100)
    dataset.on_error = 'skip'
    assert [bad.index for bad in PackedChatDataset(dataset, max_tokens=100)[0]['bad_samples']] == [1]


def test_batches_reach_the_model_normalised(mixture: ChatMixture) -> None:
    batch = collate_chat([mixture[0], mixture[1]])
    prepared = ChatDataPreprocessor()(batch)
    assert prepared['inputs'].tiles.dtype == torch.float32
    expected = (batch['inputs'].tiles[:, 0] / 255 - 0.485) / 0.229
    torch.testing.assert_close(prepared['inputs'].tiles[:, 0], expected)
    assert [sample.path for sample in prepared['data_samples']] == [mixture.path(0), mixture.path(1)]


def test_encoder_settings_are_checked(mixture: ChatMixture, tmp_path: Path) -> None:
    from internvl_mm.preprocess import ChatEncoder, SquashTiling

    with pytest.raises(ConfigError, match=r"frame_prefix='Frame {}' has to hold one <image>"):
        encoder(frame_prefix='Frame {}')
    with pytest.raises(ConfigError, match=r'max_tiles=3 .* needs DynamicTiling, not SquashTiling\(28\)'):
        encoder(tiling=SquashTiling(28)).variant(max_tiles=3)
    with pytest.raises(ConfigError, match='cannot be loaded'):
        ChatEncoder(str(tmp_path), 'Hermes-2')
