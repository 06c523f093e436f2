"""The sheet shows the pixels the model gets and the labels it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import RandomResize
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData
from mmseg.datasets import PackSegInputs
from mmseg.models import SegDataPreProcessor

from internvl_mm.data.collate import collate_lists
from internvl_mm.data.datasets import OpenMMLabDataset
from internvl_mm.data.loading import LoadImage, LoadSegMap
from internvl_mm.data.samplers import EvalSampler
from internvl_mm.engine.browse import LABEL, browse, draw_samples, label_lines
from internvl_mm.engine.config import load_config
from internvl_mm.structures import ImageSample
from internvl_mm.utils.errors import ConfigError
from tests.cases import SEG_CLASSES, seg_dataset, write_seg_folder

DIGITS = str(Path(__file__).parents[1] / 'data' / 'configs' / 'digits.py')


def sample(label: int = 1) -> ImageSample:
    """A labelled sample."""
    return ImageSample.labelled(label, dataset='digits', index=0)


def test_pixels_survive() -> None:
    pixels = torch.rand(7, 3, 112, 112)
    sheet = np.asarray(draw_samples(pixels, [sample()] * 7))
    assert sheet.shape == (2 * (112 + LABEL + 4), 6 * 116, 3)
    second_row = sheet[112 + LABEL + 4 : 112 + LABEL + 4 + 112, :112]
    assert np.array_equal(second_row, (pixels[6] * 255).round().byte().permute(1, 2, 0).numpy())


def test_labels() -> None:
    names = ('zero', 'one', 'two')
    assert label_lines(sample()) == ['1']
    assert label_lines(sample(), names) == ['1 one']
    mixed = sample()
    mixed.gt_score = torch.tensor([0.1, 0.7, 0.2])
    assert label_lines(mixed, names) == ['1 one 70%', '2 two 20%']
    several = sample()
    several.gt_labels = torch.tensor([0, 2])
    assert label_lines(several) == ['0, 2']
    several.gt_labels = torch.tensor([], dtype=torch.long)
    assert label_lines(several) == ['no label']


def test_training_data_and_benchmarks() -> None:
    cfg = load_config(DIGITS)
    train, again = np.asarray(browse(cfg, num=4)), np.asarray(browse(cfg, num=4))
    assert np.array_equal(train, again)
    benchmark = np.asarray(browse(cfg, benchmark='digits', num=4))
    assert benchmark.shape == train.shape == (112 + LABEL + 4, 4 * 116, 3)
    assert not np.array_equal(train, benchmark)
    assert cfg.train_dataloader.batch_size == 8  # the config is as it was


def test_nothing_to_draw() -> None:
    cfg = load_config(DIGITS)
    with pytest.raises(ConfigError, match="no benchmark 'digit'. Did you mean 'digits'?"):
        browse(cfg, benchmark='digit')
    cfg.pop('train_dataloader')
    with pytest.raises(ConfigError, match='no train_dataloader'):
        browse(cfg)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Segmentation of pictures that the pipeline makes different in size."""
    folder = write_seg_folder(tmp_path_factory.mktemp('scenes'))
    resize = dict(type=RandomResize, scale=(28, 20), ratio_range=(0.5, 2.0), keep_ratio=True)
    read = [dict(type=LoadImage), dict(type=LoadSegMap)]
    pipelines = dict(
        train=[*read, resize, dict(type=PackSegInputs)],
        test=[read[0], resize, read[1], dict(type=PackSegInputs)],
    )
    loaders = {
        name: dict(
            dataset=dict(type=OpenMMLabDataset, dataset=seg_dataset(folder, pipeline=pipeline)),
            sampler=dict(type=EvalSampler),
            collate_fn=dict(type=collate_lists),
            batch_size=2,
            drop_last=True,
        )
        for name, pipeline in pipelines.items()
    }
    preprocessor = dict(
        type=SegDataPreProcessor,
        mean=[120] * 3,
        std=[60] * 3,
        bgr_to_rgb=True,
        size=(40, 56),
        seg_pad_val=255,
    )
    return Config(
        dict(
            model=dict(data_preprocessor=preprocessor),
            train_dataloader=loaders['train'],
            benchmarks=dict(scenes=dict(dataloader=loaders['test'])),
        )
    )


def test_label_maps_lie_over_pictures_of_any_size(scenes: Config) -> None:
    # More than there are: those there are, whatever drop_last says.
    sheet = np.asarray(browse(scenes, num=7))
    assert sheet.shape[1] == 3 * (112 + 4)  # padded to 56 pixels, twice as large
    tested = np.asarray(browse(scenes, benchmark='scenes', num=7))
    assert tested.shape != sheet.shape
    (first, *_), names = (
        [OpenMMLabDataset(scenes.train_dataloader.dataset.dataset)[2]['data_samples']],
        SEG_CLASSES,
    )
    assert label_lines(first, names) == [f'0 {names[0]}, 2 {names[2]}']
    plain = np.asarray(draw_samples(torch.zeros(1, 3, 112, 112), [sample()]))
    drawn = np.asarray(draw_samples(torch.zeros(1, 3, 112, 112), [first]))
    assert not plain[:112, :112].any() and drawn[:112, :112].any()


def test_objects_and_captions_are_drawn() -> None:
    found = DetDataSample()
    found.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(torch.tensor([[10.0, 10, 60, 60]])),
        labels=torch.tensor([1]),
        masks=BitmapMasks(np.pad(np.ones((1, 20, 20), np.uint8), ((0, 0), (20, 72), (20, 72))), 112, 112),
    )
    assert label_lines(found, ('cat', 'dog')) == ['1 dog']
    sheet = np.asarray(draw_samples(torch.zeros(1, 3, 112, 112), [found], ('cat', 'dog')))
    assert sheet[10, 30].any() and sheet[30, 30].any() and not sheet[90, 90].any()
    empty = DetDataSample()
    empty.gt_instances = InstanceData()  # as in tests, whose pipelines read no annotations
    assert label_lines(empty) == ['no label']
    told = ImageSample(metainfo=dict(dataset='pairs', index=0, caption='a digit, and ' * 5))
    assert draw_samples(torch.zeros(1, 3, 112, 112), [told]).size[1] > 112 + 3 * LABEL


def test_what_is_no_picture_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = dict(inputs=object(), data_samples=[])
    monkeypatch.setattr('internvl_mm.engine.browse.Runner.build_dataloader', lambda *args, **others: [chat])
    with pytest.raises(ConfigError, match='the samples of this config are object, and only pictures'):
        browse(load_config(DIGITS))
