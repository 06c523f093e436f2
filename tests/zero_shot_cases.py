"""Tiny data sets in the layouts of zero-shot benchmarks: folder to write into -> constructor arguments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

# Class, then left, top, right, bottom.
VOC_BOXES = {'000001': [('dog', (2, 3, 12, 14)), ('cat', (0, 0, 8, 8))], '000002': [('car', (4, 4, 20, 16))]}


def write_picture(path: Path, number: int, size: tuple[int, int] = (24, 20)) -> None:
    """A small picture of noise, (width, height) = ``size``, another one for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def write_objectnet(folder: Path) -> dict:
    """Three pictures of three overlapping classes, and a folder of a class ImageNet lacks."""
    names = dict(mug='Coffee mug', chair='Chair', banana='Banana', key='Key')
    for number, name in enumerate(names):
        write_picture(folder / 'images' / name / '0.png', number)
    (folder / 'mappings').mkdir()
    (folder / 'mappings' / 'folder_to_objectnet_label.json').write_text(json.dumps(names))
    overlap = {name: name.lower() for name in names.values() if name != 'Key'}
    (folder / 'mappings' / 'objectnet_to_imagenet_1k.json').write_text(json.dumps(overlap))
    return dict(root=str(folder))


def write_caltech101(folder: Path) -> dict:
    """Three classes and the background."""
    for number, name in enumerate(('BACKGROUND_Google', 'Faces', 'ant', 'wrench')):
        write_picture(folder / name / 'image_0001.jpg', number)
    return dict(root=str(folder))


def write_voc(folder: Path) -> dict:
    """Two pictures with three objects."""
    for number, (name, things) in enumerate(VOC_BOXES.items()):
        write_picture(folder / 'JPEGImages' / f'{name}.jpg', number)
        objects = ''.join(
            f'<object><name>{kind}</name><bndbox>'
            + ''.join(f'<{side}>{at}</{side}>' for side, at in zip(('xmin', 'ymin', 'xmax', 'ymax'), box))
            + '</bndbox></object>'
            for kind, box in things
        )
        (folder / 'Annotations').mkdir(exist_ok=True)
        (folder / 'Annotations' / f'{name}.xml').write_text(f'<annotation>{objects}</annotation>')
    (folder / 'ImageSets' / 'Main').mkdir(parents=True)
    (folder / 'ImageSets' / 'Main' / 'test.txt').write_text('\n'.join(VOC_BOXES) + '\n')
    return dict(root=str(folder))


def write_food101(folder: Path) -> dict:
    """Three dishes as torchvision unpacks Food-101."""
    meta = folder / 'food-101' / 'meta'
    meta.mkdir(parents=True)
    dishes = ('apple_pie', 'ice_cream', 'sushi')
    for number, dish in enumerate(dishes):
        write_picture(folder / 'food-101' / 'images' / dish / f'{number}.jpg', number)
    (meta / 'test.json').write_text(json.dumps({dish: [f'{dish}/{n}'] for n, dish in enumerate(dishes)}))
    return dict(kind='Food101', root=str(folder))


def write_xtd(folder: Path, captions: dict[str, list[str]]) -> dict:
    """Pictures of both folders of COCO with captions by language."""
    names = [f'COCO_{part}2014_{n:012d}.jpg' for n, part in enumerate(('val', 'train', 'val'))]
    for number, name in enumerate(names):
        write_picture(folder / 'coco' / ('val2014' if 'val' in name else 'train2014') / name, number)
    (folder / 'xtd').mkdir()
    (folder / 'xtd' / 'test_image_names.txt').write_text('\n'.join(names) + '\n')
    for code, texts in captions.items():
        (folder / 'xtd' / f'test_1kcaptions_{code}.txt').write_text('\n'.join(texts) + '\n', 'utf-8')
    return dict(root=str(folder / 'xtd'), images=str(folder / 'coco'))
