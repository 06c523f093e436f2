"""The detection configs are the published recipes, number by number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmdet.models.losses import GIoULoss
from mmengine.config import Config
from PIL import Image
from torch.nn import BatchNorm2d

from internvl_mm.data.samplers import SampleIndex
from internvl_mm.engine.config import config_root, load_config
from internvl_mm.registry import DATASETS, MODELS

SIZES = {  # width, blocks, heads, drop path, deformable heads, ratio, last block of a group, side of the ViT's pictures
    'tiny': (192, 12, 3, 0.1, 6, 1.0, 2, 224),
    'small': (384, 12, 6, 0.2, 6, 1.0, 2, 224),
    'base': (768, 12, 12, 0.3, 12, 0.5, 2, 224),
    'large': (1024, 24, 16, 0.4, 16, 0.5, 5, 384),
}


def load(name: str) -> Config:
    return load_config(str(config_root() / 'detection' / f'{name}.py'))


@pytest.mark.parametrize('schedule', ['1x', '3x'])
@pytest.mark.parametrize('size', SIZES)
def test_vit_adapters_are_those_of_the_table(size: str, schedule: str) -> None:
    cfg = load(f'mask_rcnn_vit_adapter_{size}_coco_{schedule}')
    adapter, vit = cfg.model.backbone, cfg.model.backbone.backbone
    width, blocks, heads, drop_path, deform_heads, ratio, last, side = SIZES[size]
    assert (vit.hidden_size, vit.num_hidden_layers, vit.num_attention_heads) == (width, blocks, heads)
    assert vit.drop_path_rate == adapter.drop_path_rate == drop_path
    assert (adapter.deform_num_heads, adapter.deform_ratio, adapter.norm) == (deform_heads, ratio, 'batch')
    assert tuple(adapter.interactions[0]) == (0, last) and vit.global_blocks[0] == last
    assert (vit.window_size, vit.window_padding, vit.image_size) == (14, 'projected', side)
    pixels, optimizer = cfg.model.data_preprocessor, cfg.optim_wrapper.optimizer
    # AugReg weights, of the large model alone, saw pixels of -1 to 1.
    assert pixels.mean == ([127.5] * 3 if size == 'large' else [123.675, 116.28, 103.53])
    assert pixels.std == ([127.5] * 3 if size == 'large' else [58.395, 57.12, 57.375])
    # the published 12 epochs of the tiny model alone have others
    shortest = (size, schedule) == ('tiny', '1x')
    assert (optimizer.lr, optimizer.weight_decay) == ((2e-4, 0.01) if shortest else (1e-4, 0.05))
    rates = cfg.optim_wrapper.paramwise_cfg
    if size == 'large':
        assert rates == dict(decay_rate=0.8)
    else:
        assert set(rates.custom_keys) == {'level_embed', 'position_embedding', 'norm', 'bias'}
    epochs, steps = (12, [8, 11]) if schedule == '1x' else (36, [27, 33])
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler[1].milestones) == (epochs, steps)


@pytest.mark.parametrize(('size', 'millions'), [('small', 86), ('base', 158)])
def test_cascades_on_vit_adapters_have_the_published_box_heads(size: str, millions: int) -> None:
    cfg = load(f'cascade_mask_rcnn_vit_adapter_{size}_coco_3x')
    heads = cfg.model.detector.roi_head.bbox_head
    assert [head.bbox_coder.target_stds[0] for head in heads] == [0.1, 0.05, 0.033]
    for head in heads:
        assert (head.num_shared_convs, head.num_shared_fcs, head.norm_cfg.type) == (4, 1, BatchNorm2d)
        assert (head.reg_class_agnostic, head.reg_decoded_bbox) == (False, True)
        assert (head.loss_bbox.type, head.loss_bbox.loss_weight) == (GIoULoss, 10.0)
    with torch.device('meta'):
        task = MODELS.build(cfg.model)
    total = sum(each.numel() for each in task.parameters()) / 1e6
    assert total == pytest.approx(millions, abs=1), 'the number in the readme'


def test_multi_scale_pictures_are_those_of_the_published_3x() -> None:
    pipeline = load('mask_rcnn_vit_adapter_small_coco_3x').train_dataloader.dataset.pipeline
    plain, (enlarge, crop, again) = pipeline[3].transforms
    assert plain[0].scales == again.scales == [(1333, side) for side in range(480, 801, 32)]
    assert enlarge.scales == [(1333, side) for side in (400, 500, 600)]
    assert (crop.crop_size, crop.allow_negative_crop, pipeline[4].crop_size) == (
        (384, 600),
        True,
        (1024, 1024),
    )


@pytest.mark.parametrize('name', ['mask_rcnn_vit_adapter_tiny_coco_3x', 'atss_vit_adapter_small_coco_3x',
                                  'mask_rcnn_sfp_intern_vit_300m_448px_v2_5_lvis_1x'])  # fmt: skip
def test_training_pictures_and_their_boxes_are_read(name: str, tmp_path: Path) -> None:
    Image.new('RGB', (90, 60), 'red').save(tmp_path / '0.jpg')
    outline = [[10, 10, 70, 10, 70, 50, 10, 50]]
    box = dict(
        id=1, image_id=1, category_id=1, bbox=[10, 10, 60, 40], area=2400, iscrowd=0, segmentation=outline
    )
    content = dict(images=[dict(id=1, file_name='0.jpg', height=60, width=90)], annotations=[box],
                   categories=[dict(id=1, name='it')])  # fmt: skip
    (tmp_path / 'it.json').write_text(json.dumps(content), encoding='utf-8')
    settings = load(name).train_dataloader.dataset
    settings.update(ann_file=str(tmp_path / 'it.json'), images=str(tmp_path), on_error='fail')
    data = DATASETS.build(settings)
    for epoch in range(4):  # both branches of the augmentation
        item = data[SampleIndex(0, epoch, 0)]
        found = item['data_samples'].gt_instances
        height, width = item['inputs'].shape[1:]
        # resized with their picture, from 60×90 pixels to a short side of 384 or more
        boxes, longest = found.bboxes.tensor, max(height, width)
        assert longest > 380 and boxes.max() > 90 and boxes.max() <= longest and boxes.shape == (1, 4)
        assert ('masks' in found) == name.startswith('mask')


@pytest.mark.parametrize('name', ['sfp_intern_vit_300m_448px_v2_5_coco_1x', 'sfp_intern_vit_300m_448px_v2_5_coco_3x',
                                  'vit_adapter_small_coco_3x'])  # fmt: skip
def test_data_parallel_training_does_not_wait_for_the_map_atss_leaves_out(name: str) -> None:
    cfg = load(f'atss_{name}')
    assert cfg.model.neck[1].start_level == 1 and cfg.strategy.find_unused_parameters
