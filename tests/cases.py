"""Tiny cases shared by tests: one section per room, each a table from part to what builds it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

from internvl_mm.data.datasets import (
    Caltech101Dataset,
    DigitSceneDataset,
    FewShotDataset,
    ImageFolderDataset,
    ImageListDataset,
    ImageNetReaLDataset,
    ObjectNetDataset,
    TableDataset,
    TarShardDataset,
    TorchvisionDataset,
    VOCObjectsDataset,
)
from internvl_mm.evaluation.metrics import (
    Accuracy,
    CaptionExactMatch,
    CaptionScores,
    DualSoftmaxRecall,
    ExactMatch,
    JavaCaptionScores,
    MeanIoU,
    ReaLAccuracy,
    RetrievalRecall,
    VideoAccuracy,
    ZeroShotAccuracy,
)
from internvl_mm.evaluation.metrics.coco import CocoAP, LvisAP
from internvl_mm.models.backbones import InternViT, ViTAdapter
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.heads.linear_seg import LinearSegHead
from internvl_mm.models.heads.mask2former_seg import Mask2FormerSegHead
from internvl_mm.models.internvl_14b import InternVL14B
from internvl_mm.models.losses import ClassificationLoss, InfoNCELoss, SigmoidLoss
from internvl_mm.models.necks import (
    AttentionPooling,
    BackboneMaps,
    ClipProjector,
    ClsPatchConcat,
    ClsPatchProjector,
    ClsToken,
    MeanPatch,
    MultiScaleNeck,
    SimpleFeaturePyramid,
)
from internvl_mm.models.tasks import (
    ContrastivePretraining,
    GenerativePretraining,
    ImageClassifier,
    RetrievalFinetuning,
)
from internvl_mm.models.tasks.chat_tuning import ChatTuning
from internvl_mm.models.tasks.detect import Detector
from internvl_mm.models.tasks.preference import PreferenceTuning
from internvl_mm.models.tasks.segment import Segmenter
from internvl_mm.models.text_encoders import LlamaTextEncoder
from internvl_mm.preprocess.caption_tokens import DigitSceneTokenizer
from internvl_mm.preprocess.class_prompts import ClassPrompts
from tests import zero_shot_cases
from tests.test_models.tiny_chat import tokenizer_of
from tests.test_models.tiny_tuning import chat_settings

# ---------------------------------------------------------------- datasets
# Every data set of the package with three samples of three classes: folder to write into -> constructor arguments.


def image_bytes(shade: int = 0, *, size: tuple[int, int] = (20, 16), kind: str = 'PNG') -> bytes:
    """A small gradient picture, (width, height) = ``size``, as the bytes of a file."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    pixels = np.stack([x * 9 + shade, y * 11, (x + y) * 5 + shade], axis=-1) % 256
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, kind)
    return file.getvalue()


def write_image_folder(folder: Path) -> dict:
    """Folders a, b, c with one picture each."""
    for shade, name in enumerate('abc'):
        (folder / name).mkdir(parents=True)
        (folder / name / f'{shade}.png').write_bytes(image_bytes(shade))
    return dict(root=str(folder))


def write_image_list(folder: Path) -> dict:
    """Three pictures named like ImageNet's and a list of them."""
    names = [f'ILSVRC2012_val_{number:08d}.JPEG' for number in (1, 2, 3)]
    for shade, name in enumerate(names):
        (folder / name).write_bytes(image_bytes(shade, kind='JPEG'))
    (folder / 'val.txt').write_text(''.join(f'{name} {label}\n' for label, name in enumerate(names)))
    return dict(root=str(folder), list_file=str(folder / 'val.txt'), num_classes=3)


def write_real(folder: Path) -> dict:
    """The same with ReaL labels; no picture is without."""
    (folder / 'real.json').write_text('[[0, 2], [1], [2]]')
    return dict(**write_image_list(folder), real_file=str(folder / 'real.json'))


def write_tar_shards(folder: Path) -> dict:
    """Two shards, one with .cls and one with .json labels."""
    shards = [[('x', 'cls', b'0'), ('y', 'cls', b'1')], [('z', 'json', b'{"label": 2}')]]
    for number, shard in enumerate(shards):
        with tarfile.open(folder / f's-{number}.tar', 'w') as archive:
            for key, suffix, label in shard:
                for name, content in ((f'{key}.png', image_bytes(number)), (f'{key}.{suffix}', label)):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return dict(shards=str(folder / 's-{0..1}.tar'), num_classes=3)


def write_table(folder: Path) -> dict:
    """One Parquet file with a struct of bytes and path, as ``datasets`` writes images."""
    images = [dict(bytes=image_bytes(shade), path=None) for shade in range(3)]
    table = pyarrow.table(dict(image=images, label=[0, 1, 2]))
    pyarrow.parquet.write_table(table, folder / 'data.parquet')
    return dict(path=str(folder / 'data.parquet'), num_classes=3)


def few_shot(folder: Path) -> dict:
    """One sample per class of an image folder."""
    full = ImageFolderDataset(**write_image_folder(folder / 'images'))
    return dict(dataset=full, shots=1, subset_file=str(folder / 'subset.json'))


SEG_CLASSES = ('a', 'b', 'c')


def write_seg_folder(folder: Path) -> Path:
    """Three pictures of 20×28 pixels (height × width) and their label maps, with label 2 in the last one only."""
    for number in range(3):
        mask = np.zeros((20, 28), np.uint8)
        mask[4:12, 6:20] = number
        for name, content, kind in (
            ('images', image_bytes(number, size=(28, 20), kind='JPEG'), 'jpg'),
            ('masks', None, 'png'),
        ):
            (folder / name).mkdir(parents=True, exist_ok=True)
            file = folder / name / f'{number}.{kind}'
            Image.fromarray(mask).save(file) if content is None else file.write_bytes(content)
    return folder


def seg_dataset(folder: Path, *, pipeline: list, **options) -> dict:
    """Config of mmseg's data set of the files of :func:`write_seg_folder`."""
    from mmseg.datasets import BaseSegDataset  # two seconds that most tests do not need

    prefix = dict(img_path='images', seg_map_path='masks')
    defaults = dict(data_root=str(folder), data_prefix=prefix, metainfo=dict(classes=SEG_CLASSES))
    return dict(type=BaseSegDataset, **{**defaults, **options}, pipeline=pipeline)


DATASET_CASES: dict[type, Callable[[Path], dict]] = {
    DigitSceneDataset: lambda folder: dict(split='test', length=3),
    FewShotDataset: few_shot,
    ImageFolderDataset: write_image_folder,
    ImageListDataset: write_image_list,
    ImageNetReaLDataset: write_real,
    Caltech101Dataset: zero_shot_cases.write_caltech101,
    ObjectNetDataset: zero_shot_cases.write_objectnet,
    TableDataset: write_table,
    TarShardDataset: write_tar_shards,
    TorchvisionDataset: zero_shot_cases.write_food101,
    VOCObjectsDataset: zero_shot_cases.write_voc,
}


# ---------------------------------------------------------------- models and metrics
# Every part of the package at its smallest: class -> constructor arguments. Backbones are WIDTH wide, and there are
# CLASSES classes.

WIDTH = 16
CLASSES = 3

BACKBONE_CASES: dict[type, dict] = {
    InternViT: dict(
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=28,
        out_indices=(0, 1),
    ),
}
BACKBONE_CASES[ViTAdapter] = dict(
    backbone=dict(type=InternViT, **BACKBONE_CASES[InternViT], patch_size=16, use_class_token=False),
    interactions=((0, 0), (1, 1)),
    conv_inplane=4,
    deform_num_heads=2,
    deform_ratio=0.5,
    ffn_ratio=0.5,
    extra_extractors=1,
    gamma=0.1,
)
NECK_CASES: dict[type, dict] = {
    AttentionPooling: dict(num_heads=2),
    BackboneMaps: dict(strides=(14.0,) * 4),
    ClipProjector: dict(num_heads=2, out_dim=8),
    ClsPatchConcat: dict(),
    ClsPatchProjector: dict(out_dim=8),
    ClsToken: dict(),
    MeanPatch: dict(),
    MultiScaleNeck: dict(norm='layer'),
    SimpleFeaturePyramid: dict(out_channels=6, stride=14.0),
}
HEAD_CASES: dict[type, dict] = {LinearClsHead: dict(num_classes=CLASSES)}
# Heads on maps, for segmentation.
DENSE_HEAD_CASES: dict[type, dict] = {
    LinearSegHead: dict(num_classes=CLASSES, in_index=0),
    Mask2FormerSegHead: dict(
        num_classes=CLASSES,
        num_queries=5,
        channels=32,
        encoder_layers=1,
        decoder_layers=1,
        num_points=20,
    ),
}
LOSS_CASES: dict[type, dict] = {ClassificationLoss: dict(label_smoothing=0.1)}
CONTRASTIVE_CASES: dict[type, dict] = {InfoNCELoss: dict(chunk=2), SigmoidLoss: dict()}
TASK_CASES: dict[type, dict] = {
    ImageClassifier: dict(
        backbone=dict(type=InternViT, **BACKBONE_CASES[InternViT]),
        neck=dict(type=ClsToken),
        head=dict(type=LinearClsHead, num_classes=CLASSES),
    ),
}
# Tasks whose predictions are not one vector of scores per picture.
DENSE_TASK_CASES: dict[type, dict] = {
    Detector: dict(
        backbone=dict(type=InternViT, **BACKBONE_CASES[InternViT]),
        neck=dict(type=SimpleFeaturePyramid, **NECK_CASES[SimpleFeaturePyramid]),
        detector=dict(
            type='ATSS',
            bbox_head=dict(
                type='ATSSHead',
                num_classes=CLASSES,
                in_channels=6,
                feat_channels=32,
                loss_bbox=dict(type='GIoULoss'),
                anchor_generator=dict(
                    type='AnchorGenerator',
                    ratios=[1.0],
                    octave_base_scale=8,
                    scales_per_octave=1,
                    strides=[3.5, 7.0, 14.0, 28.0, 56.0],
                ),
            ),
            train_cfg=dict(assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1),
            test_cfg=dict(
                nms_pre=10, min_bbox_size=0, score_thr=0.05, nms=dict(iou_threshold=0.6), max_per_img=5
            ),
        ),
    ),
    Segmenter: dict(
        backbone=dict(type=InternViT, **BACKBONE_CASES[InternViT]),
        decode_head=dict(type=LinearSegHead, **DENSE_HEAD_CASES[LinearSegHead]),
    ),
}
COCO_FILE = str(Path(__file__).parent / 'data' / 'coco' / 'instances.json')  # six pictures, three classes
PROMPTS = dict(toy=ClassPrompts(names=('a 1', 'a 2', 'a 3'), templates=('{c}.',)))
LLAMA = dict(
    vocab_size=512, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
)
ALIGNMENT = dict(
    model=dict(
        type=InternVL14B,
        vision=dict(
            hidden_size=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=24,
            image_size=28,
        ),
        qllama=LLAMA,
        num_query_token=3,
        clip_embed_dim=8,
        attn_pool_num_heads=2,
    ),
    tokenizer=dict(type=DigitSceneTokenizer),
    class_prompts=PROMPTS,
)
TASK_CASES |= {
    ContrastivePretraining: dict(
        backbone=dict(type=InternViT, **BACKBONE_CASES[InternViT]),
        neck=dict(type=AttentionPooling, num_heads=2, out_dim=8),
        text_encoder=dict(type=LlamaTextEncoder, llama=LLAMA),
        tokenizer=dict(type=DigitSceneTokenizer),
        class_prompts=PROMPTS,
    ),
    GenerativePretraining: ALIGNMENT,
    RetrievalFinetuning: dict(ALIGNMENT, negatives='hard'),
}
# Tasks whose batches are conversations.
CHAT_TASK_CASES: dict[type, dict] = {
    kind: dict(chat=chat_settings(), tokenizer=tokenizer_of()) for kind in (ChatTuning, PreferenceTuning)
}
METRIC_CASES: dict[type, dict] = {
    DualSoftmaxRecall: dict(topk=(1, 2), prefix='slot'),
    RetrievalRecall: dict(topk=(1, 2), prefix='slot'),
    VideoAccuracy: dict(prefix='slot'),
    ZeroShotAccuracy: dict(topk=(1, 2), prefix='slot'),
    Accuracy: dict(topk=(1, 2), prefix='slot'),
    CocoAP: dict(ann_file=COCO_FILE, prefix='slot'),
    CaptionExactMatch: dict(prefix='slot'),
    CaptionScores: dict(prefix='slot'),
    ExactMatch: dict(prefix='slot'),
    # No program of Java runs: there is none on every machine.
    JavaCaptionScores: dict(scores=(), prefix='slot'),
    LvisAP: dict(ann_file=COCO_FILE, prefix='slot'),
    MeanIoU: dict(prefix='slot'),
    ReaLAccuracy: dict(topk=(1, 2), prefix='slot'),
}
