"""Data sets in COCO's form: what they give, and every way in which their annotations can be bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import LoadAnnotations, PackDetInputs, RandomCrop, RandomFlip, Resize
from PIL import Image

from internvl_mm.data.collate import collate_lists
from internvl_mm.data.datasets.coco import CocoDetection
from internvl_mm.data.ledger import Ledger
from internvl_mm.data.loading import LoadImage
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import DataError

LOAD = [dict(type=LoadImage), dict(type=LoadAnnotations, with_bbox=True, with_mask=True)]
PIPELINE = [*LOAD, dict(type=PackDetInputs)]
SIZES = [(20, 16), (17, 23), (20, 16)]  # width, height: not multiples of anything


def content() -> dict[str, Any]:
    """Three pictures; the last has no objects, the first a crowd beside two objects."""
    images = [
        dict(id=10 + index, file_name=f'{index}.png', width=width, height=height)
        for index, (width, height) in enumerate(SIZES)
    ]
    boxes = [(10, [2, 3, 8, 9], 5), (10, [9, 1, 10, 12], 7), (10, [0, 0, 20, 16], 5), (11, [4, 4, 9, 15], 7)]
    annotations = [
        dict(
            id=number,
            image_id=image,
            bbox=box,
            category_id=category,
            area=box[2] * box[3],
            iscrowd=int(number == 3),
            segmentation=[[box[0], box[1], box[0] + box[2], box[1], box[0], box[1] + box[3]]],
        )
        for number, (image, box, category) in enumerate(boxes, start=1)
    ]
    annotations[2]['segmentation'] = dict(size=[16, 20], counts=[0, 320])
    return dict(
        images=images, annotations=annotations, categories=[dict(id=7, name='tall'), dict(id=5, name='wide')]
    )


def dataset(
    folder: Path, change: Callable[[dict], Any] = lambda found: None, *, mode: str = 'RGB', **options: Any
) -> CocoDetection:
    """The data set on disk after ``change`` of its annotations."""
    found = content()
    for index, size in enumerate(SIZES):
        pixels = (
            np.arange(size[0] * size[1]).reshape(size[::-1]).astype(np.uint16 if mode == 'I;16' else np.uint8)
        )
        picture = Image.fromarray(pixels)
        (picture if mode == 'I;16' else picture.convert(mode)).save(folder / f'{index}.png')
    change(found)
    (folder / 'instances.json').write_text(json.dumps(found))
    return CocoDetection(
        **dict(
            dict(ann_file=str(folder / 'instances.json'), images=str(folder), pipeline=PIPELINE, name='toy'),
            **options,
        )
    )


def annotation(number: int, **changes: Any) -> Callable[[dict], None]:
    """Changes one annotation."""
    return lambda found: found['annotations'][number].update(changes)


def test_it_gives_boxes_masks_and_crowds(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    assert data.classes == ('wide', 'tall') and data.metainfo['name'] == 'toy' and len(data) == 3
    item = data[0]
    sample = item['data_samples']
    assert item['inputs'].shape == (3, 16, 20) and item['inputs'].dtype == torch.uint8
    assert sample.gt_instances.bboxes.tensor.tolist() == [[2, 3, 10, 12], [9, 1, 19, 13]]
    assert sample.gt_instances.labels.tolist() == [0, 1]
    assert sample.gt_instances.masks.masks.shape == (2, 16, 20)
    assert sample.ignored_instances.bboxes.tensor.tolist() == [[0, 0, 20, 16]]  # the crowd
    assert (sample.dataset, sample.index, sample.img_id) == ('toy', 0, 10)
    assert len(data[2]['data_samples'].gt_instances) == 0 and 'bad_samples' not in data[2]


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (annotation(0, bbox=[2, 3, -4, 9]), 'annotation 1 has an inverted or empty box [2, 3, -4, 9]'),
        (annotation(0, bbox=[2, 3, 0, 9]), 'annotation 1 has an inverted or empty box'),
        (annotation(0, bbox=[30, 3, 5, 5]), 'has a box [30, 3, 5, 5] outside of its picture of 20×16'),
        (annotation(0, bbox=[2, -9, 5, 5]), 'outside of its picture'),
        (annotation(0, bbox=[2, 3, 0.5, 5]), 'smaller than a pixel'),
        (annotation(0, area=0), 'an area of 0'),
        (annotation(0, bbox=[2, 3, 4]), 'has no box (x, y, width, height): [2, 3, 4]'),
        (annotation(0, bbox=[2, 3, float('nan'), 4]), 'has no box'),
        (annotation(0, bbox=None), 'has no box'),
        (annotation(0, segmentation=[]), 'has no segmentation, which the pipeline loads'),
        (annotation(0, segmentation=[[2, 3, 10, 12]]), 'without a polygon of three corners or more'),
    ],
)
def test_bad_annotations_stop_or_are_left_out_and_recorded(
    tmp_path: Path, change: Callable, text: str
) -> None:
    with pytest.raises(DataError) as error:
        dataset(tmp_path, change)
    assert (
        text in str(error.value)
        and '1 annotations are bad' in str(error.value)
        and '0.png' in str(error.value)
    )
    for policy in ('skip', 'replace'):
        item = dataset(tmp_path, change, on_error=policy)[0]
        # the picture stays, without this object
        assert item['data_samples'].gt_instances.labels.tolist() == [1]
        (bad,) = item['bad_samples']
        assert (bad.dataset, bad.index) == ('toy', 0) and text in bad.reason
    batch = collate_lists([item])
    ledger = Ledger(tmp_path / 'bad.jsonl')
    ledger.update(batch['bad_samples'], 1)
    assert text.split('[')[0] in (tmp_path / 'bad.jsonl').read_text()


def test_boxes_that_reach_over_the_border_are_fine(tmp_path: Path) -> None:
    data = dataset(tmp_path, annotation(0, bbox=[15, 3, 9, 9]))
    assert data[0]['data_samples'].gt_instances.bboxes.tensor[0].tolist() == [15, 3, 24, 12]


@pytest.mark.parametrize(
    ('change', 'options', 'text'),
    [
        (
            lambda found: None,
            dict(classes=('wide',)),
            "1 categories of the file are not among them, first 'tall'",
        ),
        (lambda found: None, dict(classes=('wide', 'tall', 'x')), "1 of them are not in the file, first 'x'"),
        (lambda found: None, dict(classes=('tall', 'wide')), 'the order is not that of the category ids'),
        (
            annotation(0, category_id=3),
            {},
            r'annotation 1 is of category 3, but the file has categories \[5, 7\]',
        ),
        (annotation(0, image_id=99), {}, r'annotations belong to images \[99\] that the file does not list'),
        (annotation(0, category_id='5'), {}, r"is of category '5', but the file has categories \[5, 7\]"),
        (lambda found: found['images'][2].update(id='x'), {}, "image id 'x' is no whole number"),
        (lambda found: found['images'][2].update(id=11), {}, 'two images have one id'),
        (lambda found: found.pop('categories'), {}, r"lacks \['categories'\]"),
        (
            lambda found: found['images'][0].pop('width'),
            {},
            r"an entry is not in the form of COCO \(KeyError 'width'\): images need id",
        ),
        (
            lambda found: found['annotations'][0].pop('category_id'),
            {},
            'an entry is not in the form of COCO',
        ),
        (
            lambda found: [category.update(name='one') for category in found['categories']],
            {},
            "two categories are called 'one'",
        ),
        (
            lambda found: found.update(images=[], annotations=[]),
            {},
            'lists 0 pictures, and none of them has an object',
        ),
    ],
)
def test_files_that_do_not_fit_are_told(tmp_path: Path, change: Callable, options: dict, text: str) -> None:
    with pytest.raises(DataError, match=text):
        dataset(tmp_path, change, on_error='replace', **options)


def test_missing_and_broken_annotation_files_are_told(tmp_path: Path) -> None:
    options = dict(images=str(tmp_path), pipeline=PIPELINE)
    with pytest.raises(DataError, match='none.json: cannot be read .*check ann_file'):
        CocoDetection(str(tmp_path / 'none.json'), **options)
    (tmp_path / 'text.json').write_text('hello')
    with pytest.raises(DataError, match='text.json is not JSON'):
        CocoDetection(str(tmp_path / 'text.json'), **options)
    (tmp_path / 'list.json').write_text('[]')
    with pytest.raises(DataError, match='lacks'):
        CocoDetection(str(tmp_path / 'list.json'), **options)


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'P', 'I;16'])
def test_pictures_of_other_modes_become_colours(tmp_path: Path, mode: str) -> None:
    assert dataset(tmp_path, mode=mode)[1]['inputs'].shape == (3, 23, 17)


def test_bad_pictures_follow_the_policy(tmp_path: Path) -> None:
    data = dataset(tmp_path, on_error='skip')
    (tmp_path / '1.png').write_bytes((tmp_path / '1.png').read_bytes()[:40])
    assert isinstance(data[1], BadSample) and '1.png' in data[1].reason
    (tmp_path / '1.png').unlink()
    assert 'cannot be read' in data[1].reason
    Image.new('RGB', (23, 17)).save(tmp_path / '1.png')
    assert 'has 17×23 pixels (height × width), but the annotation 23×17' in data[1].reason
    replaced = dataset(tmp_path, on_error='replace')
    Image.new('RGB', (5, 5)).save(tmp_path / '1.png')
    item = replaced[1]
    assert item['data_samples'].index != 1 and item['bad_samples'][0].index == 1


def test_pictures_without_objects_are_left_out_only_when_asked(tmp_path: Path) -> None:
    assert len(dataset(tmp_path, keep_empty=False)) == 2
    everything_empty = lambda found: found.update(annotations=[])  # noqa: E731
    assert len(dataset(tmp_path, everything_empty)) == 3
    with pytest.raises(DataError, match='lists 3 pictures, and none of them has an object'):
        dataset(tmp_path, everything_empty, keep_empty=False)


def test_what_is_random_follows_seed_epoch_and_index(tmp_path: Path) -> None:
    steps = [
        dict(type=RandomFlip, prob=0.5),
        dict(type=RandomCrop, crop_size=(8, 8), allow_negative_crop=True),
    ]
    data = dataset(tmp_path, pipeline=[*LOAD, *steps, dict(type=PackDetInputs)])
    first = [data[SampleIndex(0, epoch, 1)]['inputs'] for epoch in range(6)]
    again = [data[SampleIndex(0, epoch, 1)]['inputs'] for epoch in range(6)]
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    assert not all(torch.equal(first[0], other) for other in first[1:])


def test_rare_classes_repeat(tmp_path: Path) -> None:
    data = dataset(tmp_path, repeat_below=1.0)
    # 'wide' is in 1 of 3 pictures, 'tall' in 2: sqrt(3) rounds up
    assert len(data) > 3 and data.path(0) == data.path(1) == str(tmp_path / '0.png')
    assert data[1]['data_samples'].img_id == 10


def test_lvis_names_its_pictures_by_address(tmp_path: Path) -> None:
    def as_lvis(found: dict) -> None:
        (tmp_path / 'val2017').mkdir(exist_ok=True)
        for image in found['images']:
            image['coco_url'] = f'http://images.cocodataset.org/val2017/{image.pop("file_name")}'

    assert dataset(tmp_path, as_lvis).path(0) == str(tmp_path / 'val2017' / '0.png')


def test_fingerprint_sees_annotations_and_pipeline(tmp_path: Path) -> None:
    prints = {
        dataset(tmp_path).fingerprint(),
        dataset(tmp_path, annotation(0, bbox=[2, 3, 8, 8])).fingerprint(),
        dataset(
            tmp_path, pipeline=[*LOAD, dict(type=Resize, scale=(8, 8)), dict(type=PackDetInputs)]
        ).fingerprint(),
    }
    assert len(prints) == 3 and dataset(tmp_path).fingerprint() in prints
