"""The segmentation task against mmseg's own model with the same weights, and its mistakes told."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.models import (
    CrossEntropyLoss,
    EncoderDecoder,
    FCNHead,
    SegDataPreProcessor,
    UPerHead,
    decode_heads,
)
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from internvl_mm.models.backbones import InternViT
from internvl_mm.models.heads.linear_seg import LinearSegHead
from internvl_mm.models.inference import SlideInference
from internvl_mm.models.necks import MultiScaleNeck
from internvl_mm.models.tasks.segment import Segmenter
from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import ConfigError, DataError
from tests.cases import BACKBONE_CASES, CLASSES, DENSE_HEAD_CASES, WIDTH

BACKBONE = dict(
    type=InternViT, **dict(BACKBONE_CASES[InternViT], num_hidden_layers=4, out_indices=(0, 1, 2, 3))
)
NORM = dict(type=nn.BatchNorm2d)
UPER = dict(
    type=UPerHead, in_index=[0, 1, 2, 3], channels=8, pool_scales=(1, 2), num_classes=CLASSES, norm_cfg=NORM
)
AUX = dict(
    type=FCNHead,
    in_index=1,
    channels=8,
    num_convs=1,
    concat_input=False,
    num_classes=CLASSES,
    norm_cfg=NORM,
    loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4),
)
LINEAR = dict(type=LinearSegHead, **DENSE_HEAD_CASES[LinearSegHead])
SLIDE = dict(type=SlideInference, crop_size=56, stride=28, batch_size=5)
PREPROCESSOR = dict(
    type=SegDataPreProcessor, mean=[120] * 3, std=[60] * 3, bgr_to_rgb=True, size=(56, 84), seg_pad_val=255
)


def samples(count: int, size: tuple[int, int], **meta) -> list[SegDataSample]:
    made = []
    for _ in range(count):
        sample = SegDataSample(metainfo=dict(ori_shape=size, img_shape=size, **meta))
        label = torch.randint(CLASSES, (1, *size))
        label[:, :3] = 255
        sample.gt_sem_seg = PixelData(data=label)
        made.append(sample)
    return made


def segmenter(**options) -> Segmenter:
    task = Segmenter(
        **{
            **dict(backbone=BACKBONE, neck=dict(type=MultiScaleNeck), decode_head=UPER, auxiliary_head=AUX),
            **options,
        }
    )
    task.init_weights()
    return task


class Features(nn.Module):
    """Our backbone and neck where mmseg wants a backbone: pixels to a tuple of maps."""

    def __init__(self, task: Segmenter):
        super().__init__()
        self.task = task

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return self.task.neck(self.task.backbone(pixels))


def of_mmseg(task: Segmenter) -> EncoderDecoder:
    """Mmseg's model with the parts of a task."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        heads = [dict(head, in_channels=[WIDTH] * 4) for head in (UPER,)] + [dict(AUX, in_channels=WIDTH)]
        test_cfg = ConfigDict(mode='slide', crop_size=(56, 56), stride=(28, 28))
        model = EncoderDecoder(
            backbone=dict(type=nn.Identity), decode_head=heads[0], auxiliary_head=heads[1], test_cfg=test_cfg
        )
    model.backbone = Features(task)
    model.decode_head.load_state_dict(task.decode_head.state_dict())
    model.auxiliary_head.load_state_dict(task.auxiliary_head.state_dict())
    return model


def test_losses_and_gradients_equal_mmseg():
    task = segmenter()
    for head in (task.decode_head, task.auxiliary_head):
        head.dropout = None  # its draws differ
    theirs = of_mmseg(task)
    theirs.decode_head.dropout = theirs.auxiliary_head.dropout = None
    pixels, labelled = torch.randn(2, 3, 56, 84), samples(2, (56, 84))
    ours, expected = task(pixels, labelled, mode='loss'), theirs.loss(pixels, labelled)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value)
    task.parse_losses(ours)[0].backward()
    gradients = {name: parameter.grad.clone() for name, parameter in task.named_parameters()}
    task.zero_grad()
    theirs.parse_losses(expected)[0].backward()
    for name, parameter in task.backbone.named_parameters():
        torch.testing.assert_close(gradients[f'backbone.{name}'], parameter.grad)
    for name, parameter in theirs.decode_head.named_parameters():
        torch.testing.assert_close(gradients[f'decode_head.{name}'], parameter.grad)


def test_sliding_predictions_equal_mmseg():
    task = segmenter(inference=SLIDE).eval()
    theirs = of_mmseg(task).eval()
    pixels, labelled = torch.randn(2, 3, 70, 112), samples(2, (67, 101))
    with torch.no_grad():
        expected = theirs.predict(pixels, copy.deepcopy(labelled))
        logits = task.inference(task.logits, pixels)
        predicted = task(pixels, labelled, mode='predict')
    for index in range(2):
        resampled = nn.functional.interpolate(logits[index][None], (67, 101), mode='bilinear')[0]
        torch.testing.assert_close(resampled, expected[index].seg_logits.data, rtol=1e-4, atol=1e-5)
        same = predicted[index].pred_sem_seg.data == expected[index].pred_sem_seg.data
        assert same.float().mean() > 0.999, 'but for ties of rounding'


def test_one_channel_against_the_background_predicts_both_as_mmseg_does():
    binary = dict(type='CrossEntropyLoss', use_sigmoid=True)
    head = dict(LINEAR, num_classes=2, out_channels=1, threshold=0.4, loss_decode=binary)
    task = segmenter(neck=None, decode_head=head, auxiliary_head=None).eval()
    nn.init.normal_(task.decode_head.conv_seg.weight)
    pixels, (sample,) = torch.randn(1, 3, 56, 56), samples(1, (40, 50))
    with torch.no_grad():
        theirs = SimpleNamespace(decode_head=task.decode_head, align_corners=False)
        expected = EncoderDecoder.postprocess_result(theirs, task.logits(pixels), [sample.clone()])
        found = task.predict(pixels, [sample])[0].pred_sem_seg.data
    assert found.unique().tolist() == [0, 1]
    assert torch.equal(found, expected[0].pred_sem_seg.data)


def test_the_linear_head_is_the_published_one():
    loss = dict(type=CrossEntropyLoss)
    head = LinearSegHead(3200, num_classes=150, loss_decode=loss)
    assert sum(parameter.numel() for parameter in head.parameters()) == 486_550
    larger = LinearSegHead(3200, num_classes=171, loss_decode=loss)
    assert larger.conv_seg.weight.numel() + 171 + 6400 == 553_771
    names = {name.rpartition('.')[0] for name, _ in head.named_parameters()}
    assert names == {'norm', 'conv_seg'}
    assert (head.norm.eps, head.norm.momentum, head.dropout) == (1e-5, 0.1, None)


def test_published_sizes_of_upernet():
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmseg'):
        head = MODELS.build(
            dict(UPER, in_channels=[3200] * 4, channels=1536, pool_scales=(1, 2, 3, 6), num_classes=150)
        )
        aux = MODELS.build(dict(AUX, in_channels=3200, channels=1536, num_classes=150))
    millions = [round(sum(each.numel() for each in part.parameters()) / 1e6, 1) for part in (head, aux)]
    assert millions == [312.5, 44.5]


HEADS = {  # heads of mmseg that take maps of a ViT, none with a loss of its own given
    'ANNHead': dict(in_index=[2, 3], project_channels=8, query_scales=(1,), key_pool_scales=(1, 2)),
    'APCHead': dict(pool_scales=(1, 2)),
    'ASPPHead': dict(dilations=(1, 2)),
    'DAHead': dict(pam_channels=8),
    'DMHead': dict(filter_sizes=(1, 3)),
    'DNLHead': {},
    'DepthwiseSeparableASPPHead': dict(dilations=(1, 2), c1_in_channels=0, c1_channels=0),
    'DepthwiseSeparableFCNHead': {},
    'EMAHead': dict(ema_channels=8, num_bases=4, num_stages=1),
    'EncHead': dict(in_index=[1, 2, 3], num_codes=4, norm_cfg=dict(type='BN')),  # it reads the name
    'FCNHead': {},
    'FPNHead': dict(in_index=[0, 1, 2, 3], feature_strides=[4, 8, 16, 32]),
    'GCHead': {},
    'ISAHead': dict(isa_channels=8),
    'NLHead': {},
    'PSPHead': dict(pool_scales=(1, 2)),
    'SETRMLAHead': dict(in_index=[0, 1, 2, 3], mla_channels=4, channels=16),
    'SETRUPHead': {},
    'SegformerHead': dict(in_index=[0, 1, 2, 3]),
    'SegmenterMaskTransformerHead': dict(num_layers=1, num_heads=2, embed_dims=8),
    'UPerHead': dict(in_index=[0, 1, 2, 3], pool_scales=(1, 2)),
}


@pytest.mark.parametrize('name', HEADS)
def test_heads_without_a_loss_get_that_of_mmseg_whatever_the_scope_of_the_run(name: str):
    kind = getattr(decode_heads, name)
    head = {**dict(type=kind, in_index=3, channels=8, num_classes=CLASSES, norm_cfg=NORM), **HEADS[name]}
    several = isinstance(head['in_index'], list)
    alone = dict(head, in_channels=[WIDTH] * len(head['in_index']) if several else WIDTH)
    # the scope of a run, in which mmseg's names mean nothing
    with DefaultScope.overwrite_default_scope('internvl_mm'):
        built = [MODELS.build(alone), Segmenter(backbone=BACKBONE, decode_head=head).decode_head]
    for each in built:
        assert isinstance(each, kind) and isinstance(each.loss_decode, CrossEntropyLoss)


def test_a_head_that_names_no_map_gets_the_last():
    head = dict(type=decode_heads.FCNHead, channels=8, num_classes=CLASSES, norm_cfg=NORM)
    assert Segmenter(backbone=BACKBONE, decode_head=head).decode_head.in_channels == WIDTH


@pytest.mark.parametrize('kind', DENSE_HEAD_CASES)
def test_heads_of_ours_are_made_in_the_scope_of_a_run(kind: type):
    settings = dict(DENSE_HEAD_CASES[kind])
    settings['in_channels'] = WIDTH if kind is LinearSegHead else [WIDTH] * 4
    with DefaultScope.overwrite_default_scope('internvl_mm'):
        assert isinstance(MODELS.build(dict(type=kind, **settings)), kind)
        if kind is LinearSegHead:
            assert isinstance(kind(**settings).loss_decode, CrossEntropyLoss)


def test_heads_compute_in_fp32_under_half_precision():
    task = segmenter()
    task.set_precision(torch.bfloat16)
    seen = []
    last = task.decode_head.conv_seg  # mmseg calls a head's forward by itself, past its hooks
    last.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    task(torch.randn(2, 3, 56, 56), samples(2, (56, 56)), mode='loss')
    task.eval()(torch.randn(2, 3, 56, 56), samples(2, (56, 56)), mode='predict')
    assert seen == [(torch.float32, torch.float32)] * 2
    assert {parameter.dtype for parameter in task.parameters()} == {torch.float32}


def test_predictions_go_back_to_the_picture():
    """Padding of a data preprocessor is cut off, flips are undone, and the map has the size of the file."""
    task = segmenter().eval()
    task.logits = lambda pixels: pixels  # a pixel's class is its largest channel
    pixels = torch.zeros(1, 3, 6, 8)
    pixels[0, 1, :, :2] = 1
    pixels[0, 2, 4:] = 5
    [sample] = task.predict(pixels, samples(1, (8, 16), img_padding_size=[0, 0, 0, 2], flip=True))
    assert sample.pred_sem_seg.data.shape == (1, 8, 16)
    assert sample.pred_sem_seg.data.unique().tolist() == [0, 1], 'the lower two rows were padding'
    assert (sample.pred_sem_seg.data[0, :, -3:] == 1).all() and not sample.pred_sem_seg.data[0, :, :8].any()


def test_batches_of_bytes_run_through_the_data_preprocessor():
    task = segmenter(data_preprocessor=PREPROCESSOR)
    batch = dict(
        inputs=[torch.randint(256, (3, 56, 84), dtype=torch.uint8)] * 2,
        data_samples=samples(2, (56, 84)),
        bad_samples=['kept aside'],
    )
    losses = task.parse_losses(task(**task.data_preprocessor(batch, training=True), mode='loss'))[1]
    assert torch.isfinite(losses['loss'])


def test_class_counts_are_compared_before_training():
    task = segmenter()
    task.check_data(dict(name='scenes', classes=('a', 'b', 'c')))
    task.check_data({})
    with pytest.raises(DataError, match=r'scenes has 2 classes but .* set model.decode_head.num_classes=2'):
        task.check_data(dict(name='scenes', classes=('a', 'b')))


def test_several_auxiliary_heads_are_numbered():
    task = segmenter(auxiliary_head=[AUX, dict(AUX, in_index=2)])
    names = task(torch.randn(2, 3, 56, 56), samples(2, (56, 56)), mode='loss').keys()
    assert {'aux_0.loss_ce', 'aux_1.loss_ce', 'decode.loss_ce'} <= names
    assert [type(each) for each in task.auxiliary_head] == [FCNHead, FCNHead]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(neck=None, backbone=dict(BACKBONE, out_indices=())), 'gives no maps: set its out_indices'),
        (dict(decode_head=dict(LINEAR, in_index=4)), r'in_index=4, but there are 4 maps \(0 to 3\)'),
        (
            dict(auxiliary_head=dict(AUX, in_channels=8)),
            'in_channels=8, but they have 16: leave in_channels out',
        ),
        (dict(decode_head=dict(UPER, in_channels=[16, 16, 16, 8])), r'maps of in_channels=\[16, 16, 16, 8\]'),
    ],
)
def test_parts_that_do_not_fit_are_told(options: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        segmenter(**options)


def test_pictures_that_are_no_multiple_of_the_patch():
    with pytest.raises(DataError, match='image of 56x60 pixels is not a multiple of patch_size=14'):
        segmenter()(torch.randn(1, 3, 56, 60), samples(1, (56, 60)), mode='predict')
