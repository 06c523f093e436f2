"""Pictures of any size through a classifier, a segmenter and a detector."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import PackDetInputs, Resize
from mmdet.models import DetDataPreprocessor
from mmengine.config import Config
from mmseg.datasets import ADE20KDataset, PackSegInputs
from mmseg.models import FCNHead, SegDataPreProcessor
from PIL import Image
from pycocotools import mask as coco_mask
from safetensors.torch import save_file

from internvl_mm.data.datasets import DigitSceneDataset, OpenMMLabDataset
from internvl_mm.data.datasets.coco import CocoDetection
from internvl_mm.data.loading import LoadImage, LoadSegMap
from internvl_mm.engine.config import load_config
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import ClsPatchConcat, SimpleFeaturePyramid
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.models.tasks.detect import Detector
from internvl_mm.models.tasks.segment import Segmenter
from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.serving import Inferencer, find_images
from internvl_mm.serving.inferencer import _file_names
from internvl_mm.utils.errors import CheckpointError, ConfigError, DataError
from tests.test_ops.mask_rcnn import TINY_MASK_RCNN

BACKBONE = dict(
    type=InternViT,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=28,
)
BYTES = dict(mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True)


def config(model: dict, dataset: dict) -> Config:
    benchmark = dict(dataloader=dict(dataset=dataset), metrics=[])
    return Config(
        dict(model=copy.deepcopy(model), benchmarks=dict(mine=benchmark), strategy=dict(precision='fp32'))
    )


CLASSIFIER = config(
    dict(
        type=ImageClassifier,
        backbone=BACKBONE,
        neck=dict(type=ClsPatchConcat),
        head=dict(type=LinearClsHead, num_classes=10),
        data_preprocessor=dict(type=ImageDataPreprocessor),
    ),
    dict(type=DigitSceneDataset, split='test', size=28, length=4),
)
SEGMENTER = config(
    dict(
        type=Segmenter,
        backbone=dict(BACKBONE, out_indices=(0,)),
        decode_head=dict(
            type=FCNHead, channels=16, num_convs=0, concat_input=False, in_index=0, num_classes=150
        ),
        data_preprocessor=dict(type=SegDataPreProcessor, **BYTES, test_cfg=dict(size_divisor=14)),
    ),
    dict(
        type=OpenMMLabDataset,
        dataset=dict(
            type=ADE20KDataset,
            data_root='nowhere',
            pipeline=[dict(type=LoadImage), dict(type=LoadSegMap), dict(type=PackSegInputs)],
        ),
    ),
)


def detector(tmp_path: Path) -> Config:
    parts: dict[str, Any] = copy.deepcopy(
        {k: v for k, v in TINY_MASK_RCNN.items() if k not in ('backbone', 'neck')}
    )
    parts['rpn_head']['anchor_generator'].update(strides=[3.5, 7.0, 14.0, 28.0])
    for kind in ('bbox', 'mask'):
        parts['roi_head'][f'{kind}_roi_extractor'].update(featmap_strides=[3.5, 7.0, 14.0, 28.0])
    annotations = dict(
        images=[],
        annotations=[],
        categories=[dict(id=7, name='one'), dict(id=8, name='two'), dict(id=9, name='three')],
    )
    (tmp_path / 'instances.json').write_text(json.dumps(annotations))
    return config(
        dict(
            type=Detector,
            backbone=dict(BACKBONE, out_indices=(0,)),
            neck=dict(type=SimpleFeaturePyramid, out_channels=16, stride=14, num_outs=4),
            detector=parts,
            classes=('one', 'two', 'three'),
            data_preprocessor=dict(type=DetDataPreprocessor, **BYTES, pad_size_divisor=14),
        ),
        dict(
            type=CocoDetection,
            ann_file=str(tmp_path / 'instances.json'),
            images=str(tmp_path),
            pipeline=[
                dict(type=LoadImage),
                dict(type=Resize, scale=(56, 56), keep_ratio=True),
                dict(type=PackDetInputs, meta_keys=['img_id', 'ori_shape', 'img_shape', 'scale_factor']),
            ],
        ),
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Colour, grey, transparent and 16-bit files of several sizes, one name twice, and two bad ones."""
    folder = tmp_path / 'pictures'
    (folder / 'deeper').mkdir(parents=True)
    numbers = np.random.default_rng(0)
    for name, mode, size in (
        ('a.png', 'RGB', (40, 30)),
        ('b.jpg', 'L', (28, 28)),
        ('c.png', 'RGBA', (33, 57)),
        ('deeper/a.png', 'RGB', (40, 30)),
    ):
        channels = len(mode)
        pixels = numbers.integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
        Image.fromarray(pixels.squeeze(), mode).save(folder / name)
    Image.fromarray(numbers.integers(0, 65536, (30, 40), dtype=np.uint16)).save(folder / 'd.png')
    (folder / 'truncated.png').write_bytes((folder / 'a.png').read_bytes()[:60])
    (folder / 'text.jpg').write_text('no picture')
    (folder / 'notes.txt').write_text('not even named like one')
    return folder


NAMES = ['a', 'b', 'c', 'd', 'a_2']


def check_folder(out: Path, results: dict[str, Any], pictures: Path) -> None:
    assert json.loads((out / 'results.json').read_text()) == results
    assert [entry['picture'] for entry in results['images']] == [f'pictures/{name}.png' for name in NAMES]
    assert all((out / entry['picture']).is_file() for entry in results['images'])
    assert [Path(entry['file']).name for entry in results['failed']] == ['text.jpg', 'truncated.png']
    assert 'not an image of an allowed format' in results['failed'][0]['reason']


def test_a_name_that_is_no_utf8_costs_no_result(tmp_path: Path) -> None:
    name = os.fsdecode(b'odd\xff.png')
    Image.new('RGB', (28, 28)).save(tmp_path / name, format='PNG')
    Inferencer(CLASSIFIER).run([tmp_path / name], tmp_path / 'out')
    [found] = json.loads((tmp_path / 'out' / 'results.json').read_text('utf-8'))['images']
    assert found['file'] == str(tmp_path / name) and (tmp_path / 'out' / found['picture']).is_file()


def test_classification(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    inferencer = Inferencer(CLASSIFIER)
    assert 'no training state to load' in capsys.readouterr().out
    results = inferencer.run([pictures], tmp_path / 'out', batch_size=3)
    check_folder(tmp_path / 'out', results, pictures)
    best = results['images'][0]['classes']
    assert len(best) == 5 and best[0]['name'] == str(best[0]['label'])
    scores = [entry['score'] for entry in best]
    assert scores == sorted(scores, reverse=True) and 0 < sum(scores) < 1
    # the numbers of the task itself, on the middle of the shrunk picture
    item = inferencer._reader.prepare(pictures / 'a.png', 0)
    assert item['inputs'].shape == (3, 28, 28)
    pixels = inferencer.task.data_preprocessor.normalise(item['inputs'][None])
    wanted = inferencer.task.head(inferencer.task.extract(pixels)).softmax(-1).max()
    assert scores[0] == pytest.approx(wanted.item(), rel=1e-5)


def test_segmentation(pictures: Path, tmp_path: Path) -> None:
    results = Inferencer(SEGMENTER).run([pictures], tmp_path / 'out', batch_size=16)
    check_folder(tmp_path / 'out', results, pictures)
    for entry, name, size in zip(
        results['images'], NAMES, [(40, 30), (28, 28), (33, 57), (40, 30), (40, 30)]
    ):
        assert entry['mask'] == f'masks/{name}.png'
        with Image.open(tmp_path / 'out' / entry['mask']) as mask:
            assert mask.size == size
            labels = np.asarray(mask)
        assert sum(found['share'] for found in entry['classes']) == pytest.approx(1)
        most = entry['classes'][0]
        assert most['share'] == pytest.approx((labels == most['label']).mean())
        # the data set is not here, but its class knows the names
        assert most['name'] == ADE20KDataset.METAINFO['classes'][most['label']]


def test_segmentation_by_a_config_from_a_file(tmp_path: Path) -> None:
    # Read from a file, classes are dotted names.
    cfg = load_config('quickstart/seg_linear_intern_vit_tiny_digits')
    cfg.load_from = cfg.model.backbone.pretrained = None
    Image.new('RGB', (28, 42), 'red').save(tmp_path / 'scene.png')  # its scenes are multiples of the patch
    results = Inferencer(cfg).run([tmp_path / 'scene.png'], tmp_path / 'out')
    assert not results['failed'] and results['images'][0]['mask'] == 'masks/scene.png'


def test_detection(pictures: Path, tmp_path: Path) -> None:
    inferencer = Inferencer(detector(tmp_path))
    results = inferencer.run([pictures], tmp_path / 'out', batch_size=2, min_score=0.0)
    check_folder(tmp_path / 'out', results, pictures)
    objects = results['images'][0]['objects']
    assert objects
    for found in objects:
        assert found['name'] == ('one', 'two', 'three')[found['category_id']]
        x, y, width, height = found['bbox']
        assert -1e-3 <= x and x + width <= 40.001 and -1e-3 <= y and y + height <= 30.001
        assert coco_mask.decode(found['segmentation']).shape == (30, 40)
    none = inferencer.run([pictures / 'a.png'], tmp_path / 'none', min_score=1.0)
    assert none['images'][0]['objects'] == []


def test_results_do_not_depend_on_the_batch(pictures: Path, tmp_path: Path) -> None:
    inferencer = Inferencer(SEGMENTER)
    together = inferencer.run([pictures], tmp_path / 'together', batch_size=16)
    alone = inferencer.run([pictures], tmp_path / 'alone', batch_size=1)
    assert together == alone


def test_weights_are_loaded_strictly(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = Inferencer(CLASSIFIER)
    weights = {name: tensor.clone() for name, tensor in source.task.state_dict().items()}
    save_file(weights, tmp_path / 'model.safetensors')
    loaded = Inferencer(CLASSIFIER, str(tmp_path / 'model.safetensors'))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in loaded.task.state_dict().items())
    first, second = (one.run([pictures / 'a.png'], tmp_path / 'out') for one in (source, loaded))
    assert first == second
    del weights['head.fc.weight' if 'head.fc.weight' in weights else sorted(weights)[-1]]
    save_file(weights, tmp_path / 'model.safetensors')
    with pytest.raises(CheckpointError, match='1 missing'):
        Inferencer(CLASSIFIER, str(tmp_path / 'model.safetensors'))


def test_find_images(pictures: Path, tmp_path: Path) -> None:
    found = find_images([pictures / 'c.png', pictures])
    assert [path.relative_to(pictures).as_posix() for path in found] == [
        'c.png', 'a.png', 'b.jpg', 'd.png', 'deeper/a.png', 'text.jpg', 'truncated.png'
    ]  # fmt: skip
    with pytest.raises(DataError, match='no_such.png does not exist'):
        find_images([tmp_path / 'no_such.png'])
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='no pictures in this folder'):
        find_images([tmp_path / 'empty'])


def test_mistakes_are_told(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no benchmark 'mime'. Did you mean 'mine'"):
        Inferencer(CLASSIFIER, benchmark='mime')
    with pytest.raises(ConfigError, match='the config has no benchmarks'):
        Inferencer(Config(dict(model=CLASSIFIER.model)))
    with pytest.raises(DataError, match='none of 1 pictures could be read'):
        Inferencer(CLASSIFIER).run([pictures / 'text.jpg'], tmp_path / 'out')
    assert json.loads((tmp_path / 'out' / 'results.json').read_text())['failed']


def test_outputs_of_files_of_one_name_do_not_overwrite_each_other() -> None:
    files = [Path('x/a.png'), Path('x/a_2.png'), Path('y/a.png'), Path('z/a.png')]
    assert _file_names(files) == ['a', 'a_2', 'a_3', 'a_4']
