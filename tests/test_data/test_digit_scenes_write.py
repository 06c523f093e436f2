"""The written data set: complete, deterministic, readable by other people's loaders, consistent across formats."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import ImageFolder

from internvl_mm.data.digit_scenes import (
    DigitSceneSettings,
    digit_at,
    read_index,
    scene_at,
    write_digit_scenes,
)
from internvl_mm.data.digit_scenes import preview as preview_module
from internvl_mm.data.digit_scenes.preview import draw_preview
from internvl_mm.data.digit_scenes.sheet import Line, Sheet, find_cjk_font
from internvl_mm.utils.errors import ConfigError, DataError
from tools.dataset_converters.digit_scenes import main

SETTINGS = DigitSceneSettings(train_size=24, test_size=16, seed=7)
SIZES = {'train': 24, 'test': 16}


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    return write_digit_scenes(tmp_path_factory.mktemp('data') / 'digit_scenes', settings=SETTINGS)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text('utf-8').splitlines()]


def load_coco(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its timing
        return COCO(str(path))


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob('*') if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_same_seed_gives_the_same_bytes(folder, tmp_path):
    again = write_digit_scenes(tmp_path / 'elsewhere' / 'deeper', settings=SETTINGS)
    assert hashes(again) == hashes(folder)


def test_index_counts_what_is_there(folder):
    index = read_index(folder)
    assert (index['name'], index['version'], index['settings']['seed']) == ('DigitScenes', 1, 7)
    for split, size in SIZES.items():
        counts = index['counts'][split]
        assert (
            counts['classification_images']
            == len(list(folder.glob(f'classification/{split}/*/*.png')))
            == size
        )
        assert counts['scenes'] == len(list(folder.glob(f'scenes/{split}/*.jpg'))) == size
        assert counts['captions'] == 10 * size
        chats = folder.glob(f'chat/{split}_*.jsonl')
        assert counts['conversations'] == sum(len(lines(file)) for file in chats)
    assert index['counts']['test']['questions'] == sum(
        len(lines(file)) for file in folder.glob('vqa/*.jsonl')
    )
    assert not [file for file in folder.parent.iterdir() if file != folder]  # nothing left of the work


def test_classification_is_an_image_folder(folder):
    data = ImageFolder(str(folder / 'classification' / 'test'))
    for file, label in data.samples:
        scene = digit_at('test', seed=7, index=int(Path(file).stem))
        assert data.classes[label] == str(scene.digits[0].value)
        np.testing.assert_array_equal(np.asarray(Image.open(file)), scene.image)


@pytest.mark.parametrize('split', SIZES)
def test_coco_instances_are_the_visible_digits(folder, split):
    coco = load_coco(folder / 'detection' / 'annotations' / f'instances_{split}.json')
    assert [(category['id'], category['name']) for category in coco.cats.values()] == [
        (d + 1, str(d)) for d in range(10)
    ]
    assert min(coco.anns) == 1
    for image_id, image in coco.imgs.items():
        scene = scene_at(split, seed=7, index=image_id)
        picture = np.asarray(Image.open(folder / 'scenes' / split / image['file_name'])).astype(int)
        assert picture.shape == (image['height'], image['width'], 3)
        assert np.abs(picture - scene.image).mean() < 4  # JPEG
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=image_id))
        assert len(annotations) == len(scene.digits)
        for annotation, digit in zip(annotations, scene.digits):
            mask = coco.annToMask(annotation).astype(bool)
            np.testing.assert_array_equal(mask, digit.mask)
            rows, columns = np.nonzero(mask)
            width, height = columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()
            assert annotation['bbox'] == [columns.min(), rows.min(), width, height]
            assert annotation['area'] == mask.sum()
            assert (annotation['category_id'], annotation['iscrowd']) == (digit.value + 1, 0)


@pytest.mark.parametrize(('split', 'ade_split'), [('train', 'training'), ('test', 'validation')])
def test_semantic_masks_are_the_union_of_the_instances(folder, split, ade_split):
    coco = load_coco(folder / 'detection' / 'annotations' / f'instances_{split}.json')
    root = folder / 'segmentation'
    files = sorted((root / 'annotations' / ade_split).iterdir())
    assert len(files) == SIZES[split]
    for file in files:
        image = Image.open(file)
        assert image.mode == 'L'
        expected = np.zeros((image.height, image.width), np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=int(file.stem))):
            expected[coco.annToMask(annotation) == 1] = annotation['category_id']
        np.testing.assert_array_equal(np.asarray(image), expected)
        copy = root / 'images' / ade_split / f'{file.stem}.jpg'
        assert copy.read_bytes() == (folder / 'scenes' / split / copy.name).read_bytes()


@pytest.mark.parametrize('language', ['en', 'zh'])
def test_captions_are_the_same_in_every_form(folder, language):
    captions = folder / 'captions'
    coco = load_coco(captions / f'captions_test_{language}.json')
    by_image = {i: [annotation['caption'] for annotation in coco.imgToAnns[i]] for i in coco.imgs}
    assert {len(texts) for texts in by_image.values()} == {5} and len(by_image) == 16
    pairs = [row for row in lines(captions / 'pairs_test.jsonl') if row['language'] == language]
    karpathy = json.loads((captions / f'karpathy_test_{language}.json').read_text('utf-8'))
    header, *flickr = (captions / f'flickr_test_{language}.txt').read_text('utf-8').splitlines()
    assert header == 'image,caption'
    read = [
        [(row['image_id'], row['caption']) for row in pairs],
        [(int(row['image_id'].rsplit('_', 1)[1]), row['caption']) for row in karpathy],
        [(int(number), caption) for number, caption in (line.split('.jpg,') for line in flickr)],
        [(i, caption) for i, texts in by_image.items() for caption in texts],
    ]
    assert read[0] == read[1] == read[2] == read[3]
    assert all((folder / row['image']).is_file() for row in pairs + karpathy)


@pytest.mark.parametrize('split', SIZES)
def test_chat_meta_leads_to_valid_samples(folder, split):
    meta_path = folder / 'chat' / f'meta_{split}.json'
    meta = json.loads(meta_path.read_text('utf-8'))
    media = {
        f'digit_scenes_{medium}_{language}'
        for medium in ('single', 'pair', 'video', 'text')
        for language in ('en', 'zh')
    }
    assert set(meta) == media
    for name, entry in meta.items():
        root = meta_path.parent / entry['root']
        samples = lines(meta_path.parent / entry['annotation'])
        assert (
            len(samples) == entry['length'] and entry['repeat_time'] == 1 and entry['data_augment'] is False
        )
        for sample in samples:
            check_sample(sample, name.split('_')[2], root)


def check_sample(sample: dict, medium: str, root: Path) -> None:
    """The fields and placeholders InternVL's loaders expect of a sample of this medium."""
    messages = sample['conversations']
    assert [message['from'] for message in messages] == ['human', 'gpt'] * (len(messages) // 2)
    assert 2 <= len(messages) <= 6 and all(message['value'] for message in messages)
    text = ''.join(message['value'] for message in messages)
    tags = Counter({'<image>': text.count('<image>'), '<video>': text.count('<video>')})
    assert tags == Counter(
        {'single': {'<image>': 1}, 'pair': {'<image>': 2}, 'video': {'<video>': 1}}.get(medium, {})
    )
    if medium == 'single':
        assert Image.open(root / sample['image']).size == (sample['width'], sample['height'])
        assert messages[0]['value'].startswith('<image>\n')
    elif medium == 'pair':
        sizes = [Image.open(root / image).size for image in sample['image']]
        assert sizes == list(zip(sample['width_list'], sample['height_list']))
        assert messages[0]['value'].startswith('Image-1: <image>\nImage-2: <image>\n')
    elif medium == 'video':
        frames = sorted((root / sample['video']).iterdir())
        assert sample['video'].endswith('/') and 4 <= len(frames) <= 8
        assert [frame.name for frame in frames] == [f'frame_{n}.jpg' for n in range(len(frames))]
    else:
        assert not {'image', 'video'} & set(sample)


def test_questions_agree_with_the_boxes(folder):
    """Answers recomputed from the COCO file alone."""
    coco = load_coco(folder / 'detection' / 'annotations' / 'instances_test.json')
    rows = lines(folder / 'vqa' / 'test_single_en.jsonl')
    assert [row['question_id'] for row in rows] == list(range(len(rows)))
    checked = Counter()
    for row in rows:
        assert (folder / row['image']).is_file()
        found = coco.imgToAnns[int(Path(row['image']).stem)]
        found = sorted(found, key=lambda annotation: 2 * annotation['bbox'][0] + annotation['bbox'][2])
        values = [annotation['category_id'] - 1 for annotation in found]
        answers = {
            'count': str(len(values)),
            'read': ', '.join(map(str, values)),
            'which': ', '.join(map(str, sorted(values))),
            'sum': str(sum(values)),
            'largest': str(max(values)),
        }
        if row['kind'] in answers:
            checked[row['kind']] += 1
            assert row['answer'] == answers[row['kind']]
    assert checked['count'] == checked['read'] == checked['which'] == 16 and checked['sum'] >= 8


def test_questions_of_the_other_forms(folder):
    coco = load_coco(folder / 'detection' / 'annotations' / 'instances_test.json')
    grounding = lines(folder / 'vqa' / 'test_grounding_en.jsonl')
    assert len(grounding) == len(coco.anns)
    for row in grounding:
        x1, y1, x2, y2 = row['bbox']
        boxes = {
            tuple(annotation['bbox']): f'{annotation["attributes"]["colour"]} {annotation["category_id"] - 1}'
            for annotation in coco.imgToAnns[int(Path(row['image']).stem)]
        }
        assert boxes[x1, y1, x2 - x1, y2 - y1] == row['sent']
    single = {
        (row['image'], row['kind']): row['answer'] for row in lines(folder / 'vqa' / 'test_single_en.jsonl')
    }
    for row in lines(folder / 'vqa' / 'test_choice_en.jsonl'):
        assert row['options']['ABCD'.index(row['answer'])] == single[row['image'], row['kind']]
    assert all(len(row['image']) == 2 for row in lines(folder / 'vqa' / 'test_pair_zh.jsonl'))
    assert all((folder / row['video']).is_dir() for row in lines(folder / 'vqa' / 'test_video_zh.jsonl'))
    assert not list((folder / 'vqa').glob('train_*'))


def test_preferences_differ(folder):
    for language in ('en', 'zh'):
        samples = lines(folder / 'chat' / f'preference_train_{language}.jsonl')
        assert len(samples) == 24
        for sample in samples:
            assert sample['question'] and sample['chosen'] != sample['rejected']
            assert (folder / sample['image']).is_file()


def test_complete_folder_is_reused(folder, capsys):
    before = {file: file.stat().st_mtime_ns for file in folder.rglob('*')}
    assert write_digit_scenes(folder, settings=SETTINGS) == folder
    assert 'already holds this data set (seed 7)' in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in folder.rglob('*')} == before


def test_folder_with_other_settings_is_refused(folder):
    other = DigitSceneSettings(train_size=24, test_size=16, seed=8)
    with pytest.raises(
        DataError, match=r'other settings \(seed 7 there, 8 asked for\)\. Choose another folder, or delete'
    ):
        write_digit_scenes(folder, settings=other)


def test_foreign_folder_is_refused_and_kept(tmp_path):
    (tmp_path / 'thesis.tex').write_text('years of work')
    with pytest.raises(
        DataError, match='is not empty and holds no dataset.json: it is not a DigitScenes data set'
    ):
        write_digit_scenes(tmp_path, settings=SETTINGS)
    assert (tmp_path / 'thesis.tex').read_text() == 'years of work'


def test_empty_folder_is_filled(tmp_path):
    out = tmp_path / 'empty'
    out.mkdir()
    write_digit_scenes(out, settings=DigitSceneSettings(train_size=1, test_size=1))
    assert read_index(out)['counts']['test']['scenes'] == 1


def test_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(
        DataError, match=r"cannot write the data set to out='.*file/data': .* Choose a folder on a disk"
    ):
        write_digit_scenes(tmp_path / 'file' / 'data', settings=SETTINGS)
    with pytest.raises(DataError, match=r"out='.*file' is a file; --out names a folder to create"):
        write_digit_scenes(tmp_path / 'file', settings=SETTINGS)


def test_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('internvl_mm.data.digit_scenes.write.write_json', full)
    with pytest.raises(DataError, match='No space left on device.*100 MB free'):
        write_digit_scenes(tmp_path / 'data', settings=DigitSceneSettings(train_size=1, test_size=1))
    assert list(tmp_path.iterdir()) == []


def test_unreadable_index_is_an_error(tmp_path):
    with pytest.raises(
        DataError, match='holds no complete DigitScenes data set: dataset.json cannot be read'
    ):
        read_index(tmp_path)
    (tmp_path / 'dataset.json').write_text('[1, 2')
    with pytest.raises(DataError, match='dataset.json cannot be read'):
        read_index(tmp_path)
    (tmp_path / 'dataset.json').write_text('{"name": "ImageNet"}')
    with pytest.raises(DataError, match='describes another data set than DigitScenes'):
        read_index(tmp_path)


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (dict(train_size=0), 'train_size=0 must be at least 1'),
        (dict(test_size=-3), 'test_size=-3 must be at least 1'),
        (dict(seed=-1), 'seed=-1 must be at least 0'),
        (dict(canvas=4), 'canvas=4 is too small'),
        (dict(digit_canvas=15), 'canvas=15 is too small'),
        (dict(max_digits=6), r'num_digits=\(1, 6\) must be'),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        DigitSceneSettings(**setting)


def test_preview_shows_the_files(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(preview_module, 'find_cjk_font', lambda: None)
    plain = np.asarray(Image.open(draw_preview(folder, tmp_path / 'a.png', scenes=2)).convert('RGB'))
    assert plain.shape[1] == 1600 and 1200 < plain.shape[0] < 2600
    assert (plain == preview_module.DIGIT_COLOURS[:, None, None]).all(-1).any((1, 2)).sum() >= 2  # masks
    # With a font for Chinese there is more to draw; any font serves to show that it is used.
    font = Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf'
    monkeypatch.setattr(preview_module, 'find_cjk_font', lambda: font)
    both = Image.open(draw_preview(folder, tmp_path / 'b.png', scenes=2))
    assert both.height != plain.shape[0]


def test_preview_errors(folder, tmp_path):
    with pytest.raises(DataError, match=r"preview='sheet.jpg' must end in .png"):
        draw_preview(folder, 'sheet.jpg')
    with pytest.raises(DataError, match='holds no complete DigitScenes data set'):
        draw_preview(tmp_path, tmp_path / 'sheet.png')
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match='cannot write preview='):
        draw_preview(folder, tmp_path / 'file' / 'sheet.png')


def test_chinese_font_is_found_by_its_name(tmp_path):
    assert find_cjk_font([str(tmp_path)]) is None
    for name in ('DejaVuSans.ttf', 'simsun.ttc', 'NotoSansCJK-Regular.ttc'):
        (tmp_path / name).write_bytes(b'')
    assert find_cjk_font([str(tmp_path)]).name == 'NotoSansCJK-Regular.ttc'


def test_text_wraps_within_its_column():
    sheet = Sheet()
    for text in ('a few words ' * 30, '中文' * 60):
        wrapped = list(sheet._wrap(Line('Q', text.strip()), 300))
        assert len(wrapped) > 3
        assert [line.mark for line in wrapped] == ['Q'] + [''] * (len(wrapped) - 1)
        joint = ' ' if 'few' in text else ''
        assert joint.join(line.text for line in wrapped) == text.strip()


def test_door_writes_and_reports(tmp_path, capsys):
    arguments = ['--out', str(tmp_path / 'out'), '--train-size', '2', '--test-size', '2', '--canvas', '96']
    assert (
        main([*arguments, '--digit-canvas', '32', '--seed', '3', '--preview', str(tmp_path / 'sheet.png')])
        == 0
    )
    assert Image.open(next((tmp_path / 'out' / 'scenes' / 'train').iterdir())).size == (96, 96)
    assert Image.open(next((tmp_path / 'out' / 'classification').glob('*/*/*.png'))).size == (32, 32)
    assert (tmp_path / 'sheet.png').is_file()
    capsys.readouterr()
    assert main([*arguments, '--seed', '4']) == 2
    assert 'out=' in capsys.readouterr().err
    assert main([*arguments, '--preview', 'sheet.gif']) == 2
    assert 'must end in .png' in capsys.readouterr().err


def test_door_helps_without_importing_what_is_heavy(repo):
    code = (
        'import sys; from tools.dataset_converters.digit_scenes import main\n'
        'try: main(["--help"])\n'
        'except SystemExit: pass\n'
        'print(sorted({"numpy", "PIL", "torch", "internvl_mm", "sklearn"} & set(sys.modules)))'
    )
    result = subprocess.run(
        [sys.executable, '-c', code], cwd=repo, capture_output=True, text=True, check=True
    )
    assert '--digit-canvas' in result.stdout
    assert result.stdout.splitlines()[-1] == '[]'
