"""A contact sheet of a written data set: what its files say, drawn over its pictures."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from internvl_mm.data.digit_scenes.sheet import SOFT, TILE, Line, Sheet, find_cjk_font
from internvl_mm.data.digit_scenes.write import read_index
from internvl_mm.data.digit_scenes.writers.files import save_image, scene_path
from internvl_mm.data.digit_scenes.writers.semantic import ADE_SPLITS
from internvl_mm.utils.console import console
from internvl_mm.utils.errors import DataError

SPLIT = 'test'
# One colour per digit, far apart in hue, for masks and boxes.
DIGIT_COLOURS = np.array(
    [
        *[(230, 25, 75), (60, 180, 75), (255, 200, 0), (30, 110, 240), (245, 130, 48)],
        *[(145, 30, 180), (0, 200, 210), (240, 50, 230), (150, 200, 20), (0, 128, 128)],
    ],
    np.uint8,
)
TAGS = ('<image>', '<video>', 'Image-')  # lines that stand for the pictures beside the text
NO_CHINESE = (
    'The Chinese captions and dialogues are in the files but not drawn here: this machine has no Chinese font '
    '(Debian and Ubuntu: fonts-noto-cjk).'
)


def draw_preview(folder: str | Path, path: str | Path, *, scenes: int = 5) -> Path:
    """Draw digits, scenes with masks, boxes, captions and dialogue, picture pairs and videos of the test split.

    Args:
        folder: A written data set.
        path: PNG file to write.
        scenes: Number of scenes to show.

    Raises:
        DataError: ``folder`` holds no DigitScenes data set, or ``path`` is no PNG file that can be written.
    """
    folder, path = Path(folder), Path(path)
    check_preview_path(path)
    index, font = read_index(folder), find_cjk_font()
    languages = ('en', 'zh') if font else ('en',)
    sheet = Sheet(font)
    size = ' + '.join(f'{counts["scenes"]:,} {split} scenes' for split, counts in index['counts'].items())
    sheet.title('DigitScenes', f'{size}  ·  seed {index["settings"]["seed"]}  ·  shown: the {SPLIT} files')
    sheet.section('classification', 'one large digit per image')
    # By number: digits then come mixed, as they were drawn, and not class by class.
    digits = sorted((folder / 'classification' / SPLIT).glob('*/*.png'), key=lambda file: file.name)
    sheet.strip([_picture(file) for file in digits[:34]])  # two rows of the sheet
    sheet.section('scenes', 'picture · instance masks and boxes · semantic mask · captions and dialogue')
    _draw_scenes(sheet, folder, languages, scenes)
    for medium, meaning in (
        ('pair', 'two pictures, one conversation'),
        ('video', 'a digit moves through the frames'),
    ):
        sheet.section(medium, meaning)
        _draw_talks(sheet, folder, languages, medium)
    if 'zh' not in languages:
        sheet.note(NO_CHINESE)
    try:
        save_image(np.asarray(sheet.finish()), path)
    except OSError as error:
        raise DataError(
            f'cannot write preview={str(path)!r}: {error.strerror}. Choose another file.'
        ) from error
    console.print(f'DigitScenes: drew a preview of {folder} to {path}.')
    return path


def check_preview_path(path: Path) -> None:
    """Refuse a preview file of another kind, before any work is done.

    Raises:
        DataError: ``path`` does not end in ``.png``.
    """
    if path.suffix != '.png':
        raise DataError(f'preview={str(path)!r} must end in .png: the contact sheet is a PNG picture.')


def _draw_scenes(sheet: Sheet, folder: Path, languages: tuple[str, ...], most: int) -> None:
    """One row per scene: picture, instances, semantic mask, and what is said about it."""
    content = json.loads(
        (folder / 'detection' / 'annotations' / f'instances_{SPLIT}.json').read_text('utf-8')
    )
    instances: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content['annotations']:
        instances[annotation['image_id']].append(annotation)
    captions: dict[int, list[str]] = defaultdict(list)
    for pair in _read_lines(folder / 'captions' / f'pairs_{SPLIT}.jsonl'):
        if pair['language'] in languages:
            captions[pair['image_id']].append(pair['caption'])
    # One sample per scene, in order: line k is about scene k.
    chats = [_read_lines(folder / 'chat' / f'{SPLIT}_single_{language}.jsonl') for language in languages]
    for image in content['images'][:most]:
        number = image['id']
        picture = _picture(folder / scene_path(SPLIT, number))
        annotations = folder / 'segmentation' / 'annotations' / ADE_SPLITS[SPLIT]
        semantic = np.asarray(Image.open(annotations / f'{number:06d}.png'))
        tiles = [picture, _with_instances(sheet, picture, instances[number]), _coloured(semantic)]
        said = captions[number] if len(languages) == 1 else captions[number][1::4]  # 3 of 10: two are Chinese
        sheet.row(
            tiles, [*(Line('', text, SOFT) for text in said), *_dialogue([chat[number] for chat in chats])]
        )


def _draw_talks(sheet: Sheet, folder: Path, languages: tuple[str, ...], medium: str, most: int = 2) -> None:
    """One row per sample about two pictures or a video."""
    chats = [_read_lines(folder / 'chat' / f'{SPLIT}_{medium}_{language}.jsonl') for language in languages]
    # One sample per language, about the same pictures.
    for samples in list(zip(*chats))[:most]:
        sample = samples[0]
        files = (
            [folder / image for image in sample['image']]
            if medium == 'pair'
            else sorted((folder / sample['video']).glob('*.jpg'))
        )
        sheet.row([_picture(file) for file in files], _dialogue(samples))


def _picture(file: Path) -> Image.Image:
    return Image.open(file).convert('RGB')


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text('utf-8').splitlines()]


def _dialogue(samples: Sequence[dict[str, Any]]) -> list[Line]:
    """The messages of conversations, line by line."""
    lines = []
    for sample in samples:
        for message in sample['conversations']:
            texts = [text for text in message['value'].split('\n') if not text.startswith(TAGS)]
            marks = ['Q' if message['from'] == 'human' else 'A', *[''] * len(texts)]
            lines += [Line(mark, text) for mark, text in zip(marks, texts)]
    return lines


def _with_instances(sheet: Sheet, picture: Image.Image, instances: list[dict[str, Any]]) -> Image.Image:
    """The picture at tile size with masks tinted and boxes labelled."""
    # Darkened, so that the tinted masks stand out.
    pixels = np.asarray(picture).astype(np.float32) * 0.45
    for instance in instances:
        mask = rle.decode(instance['segmentation']).astype(bool)
        # Categories count from 1, digits from 0.
        pixels[mask] = DIGIT_COLOURS[instance['category_id'] - 1]
    # Boxes of the file are in pixels of the picture, drawn ones in those of the tile.
    scale = TILE / max(picture.size)
    boxes = []
    for instance in instances:
        x, y, width, height = (scale * side for side in instance['bbox'])
        colour = tuple(DIGIT_COLOURS[instance['category_id'] - 1].tolist())
        boxes.append(((x, y, x + width, y + height), str(instance['category_id'] - 1), colour))
    return sheet.boxed(Image.fromarray(pixels.astype(np.uint8)), boxes)


def _coloured(semantic: np.ndarray) -> Image.Image:
    """A mask of indices in the colours of the digits; background (0) is dark."""
    palette = np.concatenate([np.array([[44, 44, 48]], np.uint8), DIGIT_COLOURS])  # [11, 3]
    return Image.fromarray(palette[semantic])
