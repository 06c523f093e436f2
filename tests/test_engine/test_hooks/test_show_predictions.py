"""Predictions beside labels: which pictures are written, and what is where on them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import Compose
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from PIL import Image
from pycocotools import mask as coco_mask

from internvl_mm.data.decode import ImageDecoder
from internvl_mm.data.loading import LoadImage
from internvl_mm.engine.hooks import SamplePicturesHook
from internvl_mm.engine.hooks.show_predictions import ShowPredictionsHook, show_sample
from internvl_mm.evaluation.drawing import class_colours
from internvl_mm.evaluation.report import read_run
from internvl_mm.evaluation.report_html import write_report
from internvl_mm.structures import ImageSample

WIDTH, HEIGHT, GAP = 40, 30, 4


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / 'scene.png'
    Image.new('RGB', (WIDTH, HEIGHT), (100, 100, 100)).save(path)
    return str(path)


def show(folder: Path, dataset: Any, sample: Any) -> list[np.ndarray]:
    """The parts of the sheet of one sample, ``[H, W, 3]`` each, without titles."""
    loop = SimpleNamespace(current='scenes', dataloader=SimpleNamespace(dataset=dataset))
    ShowPredictionsHook(str(folder)).after_test_iter(SimpleNamespace(test_loop=loop), 0, None, [sample])
    sheet = np.asarray(Image.open(folder / 'scenes' / '000007_scene.png'))[:HEIGHT]
    return [sheet[:, left : left + WIDTH] for left in range(0, sheet.shape[1], WIDTH + GAP)]


def coloured(part: np.ndarray) -> np.ndarray:
    return (part != 100).any(axis=-1)


def test_label_maps(picture: str, tmp_path: Path) -> None:
    sample = SegDataSample(metainfo=dict(path=picture, index=7))
    labels, predicted = torch.full((2, 1, HEIGHT, WIDTH), 255)
    labels[:, :10], predicted[:, :20] = 2, 2
    sample.gt_sem_seg, sample.pred_sem_seg = PixelData(data=labels), PixelData(data=predicted)
    plain, truth, found = show(tmp_path / 'out', SimpleNamespace(metainfo={}), sample)
    assert not coloured(plain).any()
    assert coloured(truth)[:10].all() and not coloured(truth)[10:].any()
    assert coloured(found)[:20].all() and not coloured(found)[20:].any()
    assert np.array_equal(truth[0, 0], found[0, 0])


@pytest.mark.parametrize('backend', ['pil', 'cv2'])
def test_a_picture_is_drawn_as_the_pipeline_read_it(tmp_path: Path, backend: str) -> None:
    held = Image.Exif()
    held[0x0112] = 6  # a quarter turn, which OpenCV's decoder makes
    Image.new('RGB', (WIDTH, HEIGHT), (100, 100, 100)).save(tmp_path / 'scene.png', exif=held)
    pipeline = Compose([LoadImage(decoder=ImageDecoder(backend=backend))])
    dataset = SimpleNamespace(
        metainfo={}, dataset=SimpleNamespace(dataset=SimpleNamespace(pipeline=pipeline))
    )
    sample = SegDataSample(metainfo=dict(path=str(tmp_path / 'scene.png'), index=7))
    size = (HEIGHT, WIDTH) if backend == 'pil' else (WIDTH, HEIGHT)
    sample.pred_sem_seg = PixelData(data=torch.zeros((1, *size), dtype=torch.long))
    assert show_sample(sample, dataset).sheet.width == 2 * size[1] + GAP


RUNS = coco_mask.encode(np.asfortranarray(np.pad(np.ones((5, 5), np.uint8), ((20, 5), (5, 30)))))


@pytest.mark.parametrize(
    'mask', [[[5.0, 20, 10, 20, 10, 25, 5, 25]], RUNS, None], ids=['polygon', 'runs', 'none']
)
def test_objects(picture: str, tmp_path: Path, mask: Any) -> None:
    entry = dict(bbox=[5.0, 20, 10, 25], bbox_label=1, mask=mask)
    annotations = SimpleNamespace(get_data_info=lambda index: dict(instances=[entry] if index == 7 else []))
    dataset = SimpleNamespace(metainfo=dict(classes=('zero', 'one')), dataset=annotations)
    sample = DetDataSample(metainfo=dict(path=picture, index=7, dataset='scenes'))
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor([[20.0, 20, 30, 28], [1, 1, 4, 4]]),
        scores=torch.tensor([0.9, 0.1]),
        labels=torch.tensor([0, 0]),
    )
    plain, truth, found = show(tmp_path / 'out', dataset, sample)
    assert not coloured(plain).any()
    assert truth[25, 7].tolist() == list(class_colours(2)[1])
    assert coloured(truth)[22, 7] == (mask is not None)
    assert found[28, 25].tolist() == list(class_colours(1)[0])
    # the other object scores too low
    assert not coloured(found)[:5, :5].any()


def test_pictures_without_labels_and_other_tasks(picture: str, tmp_path: Path) -> None:
    sample = DetDataSample(metainfo=dict(path=picture, index=7))
    sample.pred_instances = InstanceData(
        bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0, dtype=torch.long)
    )
    plain, found = show(tmp_path / 'out', SimpleNamespace(metainfo={}), sample)
    assert np.array_equal(plain, found)
    loop = SimpleNamespace(current='faces', dataloader=SimpleNamespace(dataset=SimpleNamespace()))
    classified = ImageSample.labelled(1, dataset='faces', index=0, path=picture)
    ShowPredictionsHook(str(tmp_path / 'out')).after_test_iter(
        SimpleNamespace(test_loop=loop), 0, None, [classified]
    )
    assert not (tmp_path / 'out' / 'faces').exists()


def test_the_report_has_the_first_drawings(picture: str, tmp_path: Path) -> None:
    hook = SamplePicturesHook(samples=2)
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo={}))
    runner = SimpleNamespace(test_dataloader=loader, log_dir=str(tmp_path / 'run'))
    samples = []
    for index in range(3):
        sample = SegDataSample(metainfo=dict(path=picture, index=index, dataset='scenes'))
        labels = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.long)
        predicted = labels.clone()
        predicted[:, : HEIGHT // 2] = 1
        labels[:, -6:] = 255  # does not count: 15 of 24 rows are wrong
        sample.gt_sem_seg, sample.pred_sem_seg = PixelData(data=labels), PixelData(data=predicted)
        samples.append(sample)
    hook._before_epoch(runner, mode='test')
    (tmp_path / 'run').mkdir()
    hook._after_iter(runner, 0, dict(inputs=[None] * 3), samples, mode='test')
    hook._after_epoch(runner, mode='test')
    (tmp_path / 'run' / 'run.json').write_text('{"name": "seg"}')
    record = read_run(tmp_path / 'run')
    assert [picture.file for picture in record.pictures] == ['scenes_000000.png', 'scenes_000001.png']
    assert {(picture.prediction, picture.correct) for picture in record.pictures} == {
        ('38% of pixels right', None)
    }
    page = write_report(record.folder).read_text()
    assert page.count('class="drawn"') == 2 and '✗' not in page
