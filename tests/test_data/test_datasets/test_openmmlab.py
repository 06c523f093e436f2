"""Data sets of mmseg under our policy, and every kind of bad mask or picture."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import RandomFlip, RandomResize, Resize
from mmengine.dataset import ConcatDataset
from mmseg.datasets import BaseSegDataset, PackSegInputs
from mmseg.datasets.transforms import LoadAnnotations, PhotoMetricDistortion, RandomCrop, ResizeToMultiple
from mmseg.models import SegDataPreProcessor
from PIL import Image

from internvl_mm.data.collate import collate_lists
from internvl_mm.data.datasets import OpenMMLabDataset
from internvl_mm.data.loading import LoadImage, LoadSegMap
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import DataError
from tests.cases import SEG_CLASSES, seg_dataset, write_seg_folder

READ = [dict(type=LoadImage), dict(type=LoadSegMap)]
PACK = dict(type=PackSegInputs)
AUGMENTED = [
    *READ,
    dict(type=RandomResize, scale=(40, 24), ratio_range=(0.5, 2.0), keep_ratio=True, resize_type=Resize),
    dict(type=RandomCrop, crop_size=(16, 16), cat_max_ratio=0.75),
    dict(type=RandomFlip, prob=0.5),
    dict(type=PhotoMetricDistortion),
    PACK,
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_seg_folder(tmp_path / 'seg')


def wrapped(root: Path, pipeline: list = (*READ, PACK), **options) -> OpenMMLabDataset:
    policy = {name: options.pop(name) for name in ('on_error', 'name') if name in options}
    return OpenMMLabDataset(seg_dataset(root, pipeline=list(pipeline), **options), **policy)


def save_mask(root: Path, mask: np.ndarray | Image.Image, number: int = 0) -> Path:
    path = root / 'masks' / f'{number}.png'
    (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(path)
    return path


def labels_of(item: dict) -> torch.Tensor:
    return item['data_samples'].gt_sem_seg.data


def test_samples_equal_those_of_mmseg(root: Path):
    theirs = BaseSegDataset(
        data_root=str(root),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        metainfo=dict(classes=SEG_CLASSES),
        pipeline=[dict(type='mmcv.LoadImageFromFile'), dict(type=LoadAnnotations), PACK],
    )
    ours = wrapped(root, name='toy')
    assert len(ours) == len(theirs) == 3
    for index in range(3):
        assert torch.equal(ours[index]['inputs'], theirs[index]['inputs'])
        assert torch.equal(labels_of(ours[index]), labels_of(theirs[index]))
    sample = ours[1]['data_samples']
    assert (sample.dataset, sample.index, sample.epoch, Path(sample.path).name) == ('toy', 1, 0, '1.jpg')
    assert ours.metainfo['name'] == 'toy' and ours.metainfo['classes'] == SEG_CLASSES
    assert len(ours.metainfo['palette']) == len(SEG_CLASSES)


def test_augmentation_depends_on_seed_epoch_and_index_alone(root: Path):
    data = wrapped(root, AUGMENTED)
    indices = [SampleIndex(index, epoch, 7) for epoch in (0, 1) for index in range(3)]
    forward = [data[index] for index in indices]
    backward = [data[index] for index in reversed(indices)][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert torch.equal(one['inputs'], other['inputs']) and torch.equal(labels_of(one), labels_of(other))
    assert not torch.equal(forward[0]['inputs'], forward[3]['inputs'])


def test_fingerprint_sees_files_classes_and_pipeline(root: Path):
    first = wrapped(root).fingerprint()
    assert first == wrapped(root).fingerprint()
    assert first != wrapped(root, AUGMENTED).fingerprint()
    assert first != wrapped(root, metainfo=dict(classes=('x', 'y', 'z'))).fingerprint()


def test_wrappers_of_mmengine_are_wrapped_too(root: Path):
    inner = [seg_dataset(root, pipeline=[*READ, PACK])] * 2
    data = OpenMMLabDataset(dict(type=ConcatDataset, datasets=inner), name='twice')
    assert len(data) == 6 and torch.equal(data[4]['inputs'], data[1]['inputs'])


def test_a_pipeline_that_gives_nothing_makes_a_bad_sample(root: Path):
    data = wrapped(root, [*READ, lambda results: None], on_error='skip')
    bad = data[2]
    assert isinstance(bad, BadSample) and 'the pipeline gave nothing' in bad.reason


def test_stock_loading_of_a_missing_file_is_a_bad_sample_too(root: Path):
    data = wrapped(
        root, [dict(type='mmcv.LoadImageFromFile'), dict(type=LoadAnnotations), PACK], on_error='skip'
    )
    (root / 'masks' / '0.png').unlink()
    assert 'cannot be read' in data[0].reason


def test_replacing_keeps_the_reason(root: Path):
    (root / 'masks' / '1.png').write_bytes(b'')
    item = wrapped(root, on_error='replace')[1]
    assert item['data_samples'].index != 1
    assert 'the label map is empty' in item['bad_samples'][0].reason


def test_missing_files_and_empty_folders_are_told_when_it_is_built(root: Path, tmp_path: Path):
    with pytest.raises(
        DataError, match='BaseSegDataset cannot be built from its files.*Check that data_root'
    ):
        wrapped(tmp_path / 'nowhere')
    with pytest.raises(DataError, match='cannot be built from its files.*list.txt'):
        wrapped(root, ann_file='list.txt')
    shutil.rmtree(root / 'images')
    (root / 'images').mkdir()
    with pytest.raises(
        DataError, match='cannot be built from its files: need at least one.*lead to any files'
    ):
        wrapped(root)
    with pytest.raises(DataError, match="data set 'BaseSegDataset' has no samples"):
        wrapped(root, serialize_data=False)


def test_a_palette_of_another_length_is_told(root: Path):
    with pytest.raises(DataError, match='palette does not match classes'):
        wrapped(root, metainfo=dict(classes=SEG_CLASSES, palette=[[0, 0, 0]]))


# ---- label maps


def test_a_mask_of_another_size_than_its_image(root: Path):
    save_mask(root, np.zeros((7, 9), np.uint8))
    with pytest.raises(DataError, match=r'0.jpg has 20×28 pixels .*0.png 7×9: pair each image'):
        wrapped(root)[0]


def test_maps_read_after_resizing_keep_their_size_and_are_still_checked(root: Path):
    """The published test pipelines: mIoU is computed at the resolution of the files."""
    resized = [
        dict(type=LoadImage),
        dict(type=Resize, scale=(1_000_000, 14), keep_ratio=True),
        dict(type=ResizeToMultiple, size_divisor=14),
        dict(type=LoadSegMap),
        PACK,
    ]
    item = wrapped(root, resized)[0]
    assert item['inputs'].shape == (3, 14, 28) and labels_of(item).shape == (1, 20, 28)
    save_mask(root, np.zeros((14, 28), np.uint8))
    with pytest.raises(DataError, match=r'0.jpg has 20×28 pixels .*0.png 14×28: pair each image'):
        wrapped(root, resized)[0]


def test_a_picture_turned_by_exif_says_so(root: Path):
    picture = Image.new('RGB', (28, 20), 'red')
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    picture.save(root / 'images' / '0.jpg', exif=exif)
    with pytest.raises(DataError, match=r"28×20 pixels .* 20×28: .*EXIF.*backend='pil'"):
        wrapped(root)[0]
    flat = [
        dict(type=LoadImage, decoder=dict(type='ImageDecoder', backend='pil')),
        dict(type=LoadSegMap),
        PACK,
    ]
    assert wrapped(root, flat)[0]['inputs'].shape == (3, 20, 28)


def test_labels_beyond_the_classes(root: Path):
    mask = np.zeros((20, 28), np.uint8)
    mask[:3], mask[-1] = 9, 255
    save_mask(root, mask)
    with pytest.raises(
        DataError, match=r'labels 9 are outside the 3 classes \(0 to 2\): give the data set the'
    ):
        wrapped(root)[0]


def test_a_class_list_shorter_than_the_labels(root: Path):
    with pytest.raises(DataError, match='are outside the 2 classes'):
        wrapped(root, metainfo=dict(classes=('a', 'b')))[2]


def test_wrong_reduce_zero_label_is_named(root: Path):
    """Masks in the manner of ADE20K: 0 is nothing, class k is k + 1."""
    mask = np.tile(np.arange(4, dtype=np.uint8), (20, 7))
    save_mask(root, mask)
    with pytest.raises(DataError, match='labels 3 are outside .* set reduce_zero_label=True'):
        wrapped(root)[0]
    seen = labels_of(wrapped(root, reduce_zero_label=True)[0])
    assert seen[0, 0, :4].tolist() == [255, 0, 1, 2]
    save_mask(root, mask + 1)
    with pytest.raises(DataError, match='labels 3 are outside .*after reduce_zero_label'):
        wrapped(root, reduce_zero_label=True)[0]


def test_a_mask_of_colours(root: Path):
    save_mask(root, Image.new('RGB', (28, 20), 'red'))
    with pytest.raises(DataError, match='holds RGB colours: convert colours to indices'):
        wrapped(root)[0]


def test_damaged_and_huge_masks(root: Path):
    path = save_mask(root, np.zeros((20, 28), np.uint8))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match='0.png: the label map is damaged'):
        wrapped(root)[0]
    path.unlink()
    with pytest.raises(DataError, match='0.png: cannot be read'):
        wrapped(root)[0]
    with pytest.raises(DataError, match='more than max_pixels=100; refused'):
        wrapped(root, [dict(type=LoadImage), dict(type=LoadSegMap, max_pixels=100), PACK])[1]


@pytest.mark.parametrize('mode', ['P', 'I;16', '1'])
def test_masks_stored_otherwise_read_alike(root: Path, mode: str):
    mask = np.zeros((20, 28), np.uint8)
    mask[:5] = 1
    stored = dict(P=Image.fromarray(mask), **{'I;16': Image.fromarray(mask.astype(np.uint16))})
    stored['1'] = Image.fromarray(mask.astype(bool))
    if mode == 'P':
        stored['P'].putpalette([0, 0, 0, 255, 0, 0])
    save_mask(root, stored[mode])
    assert labels_of(wrapped(root)[0]).sum() == 5 * 28


def test_custom_classes_rename_labels(root: Path):
    class Named(BaseSegDataset):
        METAINFO = dict(classes=SEG_CLASSES, palette=[[0, 0, 0], [1, 1, 1], [2, 2, 2]])

    chosen = dict(seg_dataset(root, pipeline=[*READ, PACK]), type=Named, metainfo=dict(classes=('c', 'a')))
    save_mask(root, np.repeat(np.arange(4, dtype=np.uint8), 5)[:, None].repeat(28, 1).clip(max=2))
    labels = labels_of(OpenMMLabDataset(chosen)[0])
    assert labels.unique().tolist() == [0, 1, 255] and labels[0, 0, 0] == 1
    unknown = dict(chosen, metainfo=dict(classes=('a', 'zebra')))
    with pytest.raises(DataError, match='zebra.*metainfo names classes the annotations have'):
        OpenMMLabDataset(unknown)


# ---- pictures


@pytest.mark.parametrize('mode', ['L', 'RGBA', 'I;16'])
def test_grey_transparent_and_16_bit_pictures(root: Path, mode: str):
    ramp = np.linspace(0, 255, 28, dtype=np.uint8)[None].repeat(20, 0)
    picture = (
        Image.fromarray(ramp.astype(np.uint16) * 257)
        if mode == 'I;16'
        else Image.fromarray(ramp).convert(mode)
    )
    shutil.rmtree(root / 'images')
    (root / 'images').mkdir()
    picture.save(root / 'images' / '0.png')
    pixels = wrapped(root, img_suffix='.png')[0]['inputs']
    assert pixels.dtype == torch.uint8 and pixels.shape == (3, 20, 28)
    assert (pixels.int() - torch.from_numpy(ramp).int()).abs().max() <= 1


def test_an_image_that_differs_from_its_annotation(root: Path):
    image = str(root / 'images' / '0.jpg')
    with pytest.raises(DataError, match=r'has 20×28 pixels .* but the annotation 30×28'):
        LoadImage()(dict(img_path=image, height=30, width=28))


# ---- batches


def test_their_data_preprocessor_takes_our_batches(root: Path):
    (root / 'masks' / '1.png').unlink()
    data = wrapped(root, AUGMENTED, on_error='skip')
    batch = collate_lists([data[index] for index in range(3)])
    assert [bad.index for bad in batch['bad_samples']] == [1]
    preprocessor = SegDataPreProcessor(
        mean=[0] * 3, std=[255] * 3, bgr_to_rgb=True, size=(28, 28), seg_pad_val=255
    )
    ready = preprocessor(batch, training=True)
    assert ready['inputs'].shape == (2, 3, 28, 28) and ready.keys() == {'inputs', 'data_samples'}
    assert ready['data_samples'][0].gt_sem_seg.data[0, -1, -1] == 255
