"""Average precision against pycocotools itself, against numbers worked out by hand, and between both backends."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from internvl_mm.evaluation.figures import Bars, Lines
from internvl_mm.evaluation.metrics.coco import CocoAP, LvisAP
from internvl_mm.utils.errors import ConfigError, DataError

FILE = str(Path(__file__).parents[1] / 'data' / 'coco' / 'instances.json')
TRUTH = json.loads(Path(FILE).read_text('utf-8'))


def detections(*, noise: float = 0.0, strangers: int = 0) -> list[dict[str, Any]]:
    """One predicted sample per picture: the truth, moved by ``noise`` pixels, and boxes where nothing is."""
    draw = np.random.default_rng(0)
    samples = []
    for image in TRUTH['images']:
        mine = [entry for entry in TRUTH['annotations'] if entry['image_id'] == image['id']]
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (entry['bbox'] for entry in mine)]
        boxes += draw.integers(0, 14, (strangers, 2)).repeat(2, axis=0).reshape(strangers, 4).tolist()
        boxes = np.array(boxes, float) + noise * draw.normal(size=(len(boxes), 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        labels = [entry['category_id'] - 1 for entry in mine] + draw.integers(0, 3, strangers).tolist()
        masks = torch.zeros(len(boxes), 28, 28, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().astype(int).clip(0, 28)):
            mask[y1:y2, x1:x2] = True
        found = dict(
            bboxes=torch.tensor(boxes, dtype=torch.float32),
            scores=torch.tensor(draw.random(len(boxes)), dtype=torch.float32),
            labels=torch.tensor(labels),
            masks=masks,
        )
        samples.append(dict(dataset='toy', index=image['id'], img_id=image['id'], pred_instances=found))
    return samples


def measured(samples: list[dict], kind: type[CocoAP] = CocoAP, **options: Any) -> tuple[dict, CocoAP]:
    metric = kind(FILE, **options)
    metric.dataset_meta = dict(classes=('a', 'b', 'c'))
    metric.process(None, samples)
    found = metric.evaluate(len(samples))
    assert set(found) <= set(metric.reported())
    return found, metric


@pytest.mark.parametrize('backend', ['pycocotools', 'faster'])
def test_perfect_boxes_and_masks_have_an_ap_of_100(backend: str) -> None:
    values, _ = measured(detections(), kinds=('bbox', 'segm'), backend=backend)
    assert values['bbox_AP'] == values['bbox_AP50'] == values['segm_AP'] == pytest.approx(100)
    assert values['n'] == 6


def test_it_is_what_pycocotools_says() -> None:
    samples = detections(noise=1.0, strangers=3)
    values, metric = measured(samples, backend='pycocotools')
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(FILE)
        entries = []
        for sample in samples:
            found = sample['pred_instances']
            for (x1, y1, x2, y2), score, label in zip(
                found['bboxes'].tolist(), found['scores'].tolist(), found['labels'].tolist()
            ):
                box = [x1, y1, x2 - x1, y2 - y1]
                entry = dict(image_id=sample['img_id'], category_id=label + 1, bbox=box, score=score)
                entries.append(entry)
        judge = COCOeval(truth, truth.loadRes(entries), 'bbox')
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    assert 5 < values['bbox_AP'] < 95
    names = ['AP', 'AP50', 'AP75', 'AP_small', 'AP_medium', 'AP_large', 'AR1', 'AR10', 'AR100']
    expected = {name: 100 * value for name, value in zip(names, judge.stats) if value >= 0}
    assert {name: values[f'bbox_{name}'] for name in expected} == pytest.approx(expected, abs=1e-4)
    # no object of the toy data is that large
    assert 'AP_large' not in expected and 'bbox_AP_large' not in values
    bars, lines = metric.figures
    assert isinstance(bars, Bars) and isinstance(lines, Lines)
    assert np.mean(list(bars.values.values())) == pytest.approx(values['bbox_AP'])
    curve = np.array(lines.series['IoU 0.5'])
    # AP50 is the mean precision at 101 recalls
    assert curve.shape == (101, 2) and curve[:, 1].mean() == pytest.approx(values['bbox_AP50'])
    assert list(lines.series) == ['IoU 0.5', 'IoU 0.75'] and (np.diff(curve[:, 1]) <= 1e-9).all()


@pytest.mark.parametrize('strangers', [0, 4])
def test_both_backends_agree_to_1e_9(strangers: int) -> None:
    samples = detections(noise=1.5, strangers=strangers)
    slow, _ = measured(copy.deepcopy(samples), kinds=('bbox', 'segm'), backend='pycocotools')
    fast, metric = measured(samples, kinds=('bbox', 'segm'), backend='faster')
    assert metric.fast and fast.keys() == slow.keys()
    assert max(abs(fast[name] - slow[name]) for name in slow) <= 1e-9


def test_samples_seen_twice_count_once_and_order_does_not_matter() -> None:
    samples = detections(noise=1.0, strangers=2)
    whole, _ = measured(samples)
    repeated, _ = measured([*samples[3:], *samples[:3], *samples[:2]])
    assert repeated == pytest.approx(whole) and repeated['n'] == 6


def test_pictures_that_could_not_be_read_do_not_count() -> None:
    values, _ = measured(detections()[:2])
    assert values['bbox_AP'] == pytest.approx(100) and values['n'] == 2


@pytest.mark.parametrize('backend', ['pycocotools', 'faster'])
def test_a_model_that_finds_nothing_scores_0(backend: str) -> None:
    samples = detections()
    for sample in samples:
        sample['pred_instances'] = {name: value[:0] for name, value in sample['pred_instances'].items()}
    values, metric = measured(samples, kinds=('bbox', 'segm'), backend=backend)
    assert values['bbox_AP'] == values['segm_AP'] == 0 and metric.figures
    # As where something is found: no number for sizes no object has.
    assert values.keys() == measured(detections(), kinds=('bbox', 'segm'))[0].keys()
    assert all(value == 0 for name, value in values.items() if name != 'n')


def test_lvis_counts_only_classes_a_picture_was_searched_for_and_groups_by_frequency(tmp_path: Path) -> None:
    samples = detections(noise=1.0, strangers=3)
    searched, _ = measured(samples, LvisAP)
    truth = copy.deepcopy(TRUTH)
    for image in truth['images']:
        image['neg_category_ids'] = []
    (tmp_path / 'lvis.json').write_text(json.dumps(truth))
    metric = LvisAP(str(tmp_path / 'lvis.json'))
    metric.dataset_meta = dict(classes=('a', 'b', 'c'))
    metric.process(None, samples)
    values = metric.evaluate(6)
    assert set(values) <= set(metric.reported()) and 'bbox_AP_rare' in metric.reported()
    assert values['bbox_AP'] > searched['bbox_AP']  # strangers of classes nobody looked for are no mistakes
    groups = [values[f'bbox_AP_{name}'] for name in ('rare', 'common', 'frequent')]
    assert np.mean(groups) == pytest.approx(values['bbox_AP'])


def edited(folder: Path, **changes: Any) -> CocoAP:
    """For a file whose annotations have other values, ``None`` for a key that they lack."""
    truth = copy.deepcopy(TRUTH)
    for entry in truth['annotations']:
        entry.update(changes)
        for name in [name for name, value in changes.items() if value is None]:
            del entry[name]
    (folder / 'edited.json').write_text(json.dumps(truth))
    metric = CocoAP(str(folder / 'edited.json'), kinds=('bbox', 'segm'))
    metric.dataset_meta = dict(classes=('a', 'b', 'c'))
    metric.process(None, detections())
    return metric


@pytest.mark.parametrize(
    'change', [dict(area=None), dict(iscrowd=None), dict(id=None), dict(id=0), dict(id=7)]
)
def test_annotations_that_training_reads_can_be_evaluated(tmp_path: Path, change: dict) -> None:
    # pycocotools fails on the first three, and drops objects of one id, and those of id 0, without a word.
    assert edited(tmp_path, **change).evaluate(6)['bbox_AP'] == pytest.approx(100)


@pytest.mark.parametrize(
    'change', [dict(segmentation=None), dict(segmentation=[[1, 1, 3, 3]]), dict(bbox=None)]
)
def test_annotations_without_box_or_mask_are_told(tmp_path: Path, change: dict) -> None:
    with pytest.raises(DataError, match="annotation 1 of image .* has no box or mask .*kinds=\\('bbox',\\)"):
        edited(tmp_path, **change).evaluate(6)


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kinds=\\('box',\\): choose from 'bbox' and 'segm'"):
        CocoAP(FILE, kinds=('box',))
    samples = detections()
    metric = CocoAP(FILE)
    metric.dataset_meta = dict(classes=('a', 'b', 'd'))
    metric.process(None, samples)
    metric.dataset_meta = dict(classes=('a',))
    with pytest.raises(
        DataError, match='the model detects class 1, .* has 1 classes, from 0: give the heads'
    ):
        metric.evaluate(6)
    metric.dataset_meta = dict(classes=('a', 'b', 'd'))
    metric.process(None, samples)
    with pytest.raises(DataError, match="has no category 'd' \\(1 classes of the data set are missing\\)"):
        metric.evaluate(6)
    for name, content, message in (
        ('none.json', None, 'none.json: cannot be read .*; check ann_file'),
        ('text.json', b'hello', 'text.json is not JSON'),
        ('bytes.json', b'\xff\xfe', 'bytes.json is not JSON'),
        ('list.json', b'[]', r"list.json lacks \['annotations', 'categories', 'images'\]"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        broken = CocoAP(str(tmp_path / name))
        broken.process(None, samples)
        with pytest.raises(DataError, match=message):
            broken.evaluate(6)
    del samples[0]['pred_instances']['masks']
    with pytest.raises(ConfigError, match="kinds has 'segm' but the detector predicts no masks"):
        CocoAP(FILE, kinds=('segm',)).process(None, samples)


def test_the_faster_backend_has_to_be_installed_to_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert not CocoAP(FILE).fast
    with pytest.raises(ConfigError, match='pip install faster-coco-eval'):
        CocoAP(FILE, backend='faster')
