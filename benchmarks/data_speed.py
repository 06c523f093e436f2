"""Samples per second of the image pipelines with two workers: ours against timm's loader and against mmseg's.

300 JPEG pictures of 500 × 375 of noise over shapes. Classification: random resized crop to 224 and flip, up to batches
of 32 uint8 pictures (timm's collate, which normalises later as ours does). Segmentation: random resize, crop of 256,
flip and packing by mmseg's own transforms; only reading differs. The gate: as many samples of the same shapes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.harness import Row, compare, interleave
from internvl_mm.data.collate import collate_lists, collate_samples
from internvl_mm.data.datasets import ImageFolderDataset
from internvl_mm.data.decode import ImageDecoder
from internvl_mm.data.loading import LoadImage, LoadSegMap
from internvl_mm.preprocess.image import RandomFlip, RandomResizedCrop

PICTURES, BATCH, WORKERS = 300, 30, 2
GOAL = 1.0


def write_pictures(folder: Path, count: int) -> None:
    """Pictures in two class folders, and a label map for each."""
    draw = np.random.default_rng(0)
    (folder / 'maps').mkdir(parents=True)
    for index in range(count):
        place = folder / 'images' / f'class{index % 2}'
        place.mkdir(parents=True, exist_ok=True)
        small = draw.integers(0, 256, (12, 16, 3)).astype(np.uint8)
        picture = np.asarray(Image.fromarray(small).resize((500, 375))).astype(np.int16)
        noisy = np.clip(picture + draw.integers(-12, 12, picture.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(place / f'{index}.jpg', quality=90)
        Image.fromarray(draw.integers(0, 5, (375, 500)).astype(np.uint8)).save(
            folder / 'maps' / f'{index}.png'
        )


def _loader(dataset: Any, collate: Any) -> Any:
    return torch.utils.data.DataLoader(
        dataset, batch_size=BATCH, num_workers=WORKERS, persistent_workers=True, collate_fn=collate
    )


def classification(folder: Path) -> dict[str, Any]:
    """Loaders of pictures."""
    from timm.data import ImageDataset
    from timm.data.loader import fast_collate
    from timm.data.transforms import RandomResizedCropAndInterpolation, ToNumpy
    from torchvision.transforms import Compose, RandomHorizontalFlip

    mine = ImageFolderDataset(
        str(folder / 'images'),
        name='pictures',
        decoder=ImageDecoder(backend='cv2'),
        transform=[dict(type=RandomResizedCrop, size=224), dict(type=RandomFlip)],
    )
    theirs = ImageDataset(str(folder / 'images'))
    theirs.transform = Compose(
        [RandomResizedCropAndInterpolation(224, interpolation='bicubic'), RandomHorizontalFlip(), ToNumpy()]
    )
    return dict(ours=_loader(mine, collate_samples), timm=_loader(theirs, fast_collate))


class _Piped(torch.utils.data.Dataset):
    """File names through a row of transforms, as mmseg's data sets do."""

    def __init__(self, folder: Path, pipeline: list[dict], count: int):
        from mmseg.registry import TRANSFORMS

        self.steps = [TRANSFORMS.build(step) for step in pipeline]
        self.folder, self.count = folder, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        results: dict[str, Any] = dict(
            img_path=str(self.folder / 'images' / f'class{index % 2}' / f'{index}.jpg'),
            seg_map_path=str(self.folder / 'maps' / f'{index}.png'),
            seg_fields=[],
            reduce_zero_label=False,
            label_map=None,
        )
        for step in self.steps:
            results = step(results)
        return results


def segmentation(folder: Path, count: int) -> dict[str, Any]:
    """Loaders of pictures with maps."""
    from mmcv.transforms import LoadImageFromFile, RandomResize
    from mmcv.transforms import RandomFlip as MMFlip
    from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs, RandomCrop

    shared = [
        dict(type=RandomResize, scale=(512, 384), ratio_range=(0.8, 1.5), keep_ratio=True),
        dict(type=RandomCrop, crop_size=(256, 256), cat_max_ratio=1.0),
        dict(type=MMFlip, prob=0.5),
        dict(type=PackSegInputs),
    ]
    mine = [dict(type=LoadImage), dict(type=LoadSegMap), *shared]
    theirs = [dict(type=LoadImageFromFile), dict(type=LoadAnnotations), *shared]
    return {
        name: _loader(_Piped(folder, pipeline, count), collate_lists)
        for name, pipeline in (('ours', mine), ('mmseg', theirs))
    }


def _pass(loader: Any) -> int:
    count = 0
    for batch in loader:
        count += len(batch['inputs'] if isinstance(batch, dict) else batch[0])
    return count


def run(quick: bool = False) -> list[Row]:
    """Passes over all pictures, in turns."""
    count, rounds = (60, 2) if quick else (PICTURES, 9)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_pictures(folder, count)
        for kind, loaders in (
            ('classification', classification(folder)),
            ('segmentation', segmentation(folder, count)),
        ):
            (peer,) = loaders.keys() - {'ours'}
            if {name: _pass(loader) for name, loader in loaders.items()} != {'ours': count, peer: count}:
                raise AssertionError('a loader loses samples')
            contestants = {name: lambda loader=loader: _pass(loader) for name, loader in loaders.items()}
            seconds = interleave(contestants, rounds=rounds, warmup=1)
            per_sample = {name: [value / count for value in values] for name, values in seconds.items()}
            rows.append(compare(f'{kind}, {WORKERS} workers, per sample', per_sample, peer, goal=GOAL))
    return rows
