"""Videos to embed: a few frames each, with a class (Kinetics) or a caption (MSR-VTT).

Shape letters: T frames of a video.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from internvl_mm.data.datasets.base import BaseDataset
from internvl_mm.data.datasets.guarded import Item
from internvl_mm.data.datasets.image_text import CaptionListDataset
from internvl_mm.data.datasets.paths import PathTable, check_confined, check_folder
from internvl_mm.data.decode import ImageDecoder
from internvl_mm.data.pipeline import Pipeline
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.data.seeding import seeded
from internvl_mm.data.video import Video, open_video
from internvl_mm.registry import DATASETS, TRANSFORMS
from internvl_mm.structures import ImageSample
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.paths import ExistingFile, ExistingFolder

# From a video to positions of the frames to look at: internvl_mm.preprocess.video.FrameChoice, or its config.
Frames = Callable[[Video], list[int]] | dict


class _Clips:
    """What both data sets do with a video: choose frames, read them, transform each, stack."""

    decoder: ImageDecoder
    transform: Pipeline
    frames: Callable[[Video], list[int]]

    def read_frames(self, path: str | Path, index: SampleIndex) -> Tensor:
        """The chosen frames of one video, uint8 ``[T, 3, H, W]``.

        Raises:
            DataError: The video is missing, damaged, or has no such frames.
        """
        video = open_video(path, decoder=self.decoder)
        with seeded(index.seed, index.epoch, index):
            # The choice of frames is inside, too: RandomFrames draws it.
            return torch.stack([self.transform(frame) for frame in video.read(self.frames(video))])

    def clip_settings(self) -> list[Any]:
        """What of the frames decides the samples, for fingerprints."""
        return [type(self.frames).__qualname__, vars(self.frames)]


def _built(frames: Frames) -> Callable[[Video], list[int]]:
    return TRANSFORMS.build(frames) if isinstance(frames, dict) else frames


@DATASETS.register_module()
class KineticsDataset(_Clips, BaseDataset):
    """Kinetics: videos with an action each, from the official list of a split.

    A video lies at ``<youtube_id>_<start>_<end>.mp4`` below the root (start and end in seconds, six digits, as the
    public copies name it), or below a folder of its class. Samples have the frames ``[T, 3, H, W]`` as ``inputs``.

    Args:
        root: Folder of the videos; no path may lead out of it.
        file: The list, with columns ``label``, ``youtube_id``, ``time_start`` and ``time_end``.
        frames: Which frames: one is the middle one, eight are those of eight equal segments.
        num_classes: How many actions the list must have: 400, 600 or 700; not looked at when left out.
        options: See :class:`BaseDataset`; copies lack videos that were withdrawn: ``on_error='skip'`` records them.

    Raises:
        DataError: The list is damaged or of another version.
    """

    def __init__(
        self,
        root: ExistingFolder,
        file: ExistingFile,
        *,
        frames: Frames,
        num_classes: int | None = None,
        **options: Any,
    ):
        folder = check_folder(root, 'videos')
        rows = _read_list(Path(file))
        # Labels in the order of names, as the class numbers of Kinetics are.
        classes = sorted({label for label, _ in rows})
        # Labels are places in this order: with other actions every class would silently mean another.
        if num_classes not in (None, len(classes)):
            raise DataError(
                f'{file}: {len(classes)} actions, but num_classes={num_classes}: the list of another version'
            )
        numbers = {name: number for number, name in enumerate(classes)}
        # Copies lie flat (CVDF) or by class (the original downloader); one look decides for all.
        nested = any((folder / label).is_dir() for label in classes)
        paths = [check_confined(f'{label}/{name}' if nested else name, str(file)) for label, name in rows]
        self._paths, self.frames = PathTable(folder, paths), _built(frames)
        super().__init__([numbers[label] for label, _ in rows], classes, **options)

    def path(self, index: int) -> str:
        """See :class:`BaseDataset`."""
        return str(self._paths[index])

    def read(self, index: SampleIndex) -> Path:
        """See :class:`BaseDataset`."""
        return self._paths[index]

    def _identity(self) -> Any:
        return self.clip_settings()

    def load(self, index: SampleIndex) -> Item:
        """See :class:`GuardedDataset`."""
        # Not BaseDataset's way: one sample is several pictures, each transformed.
        label = int(self.targets[index])
        sample = ImageSample.labelled(label, dataset=self.name, index=int(index), path=self.path(index))
        return dict(inputs=self.read_frames(self.read(index), index), data_samples=sample)


@DATASETS.register_module()
class VideoCaptionDataset(_Clips, CaptionListDataset):
    """Videos with a caption each, listed as image–caption pairs are (MSR-VTT: ``video`` and ``caption``).

    Samples have the frames ``[T, 3, H, W]`` as ``inputs``.

    Args:
        root: See :class:`CaptionListDataset`.
        file: See :func:`~internvl_mm.data.captions.read_pairs`.
        frames: Which frames.
        published_frames: Which frames with ``published``.
        published: Choose frames as the published script did, which cannot do so for every length.
        options: See :class:`CaptionListDataset`.
    """

    def __init__(
        self,
        root: ExistingFolder,
        file: ExistingFile,
        *,
        frames: Frames,
        published_frames: Frames | None = None,
        published: bool = False,
        **options: Any,
    ):
        chosen = published_frames if published and published_frames is not None else frames
        self.frames = _built(chosen)
        super().__init__(root, file, **options)

    def fingerprint(self) -> str:
        """See :class:`GuardedDataset`."""
        # Paths and captions do not tell which frames are looked at.
        return f'{super().fingerprint()}-{self.image_fingerprint()}'

    def image_fingerprint(self) -> str:
        """See :class:`ImageTextDataset`."""
        return str(self.clip_settings())

    def image(self, index: SampleIndex) -> Tensor:
        """The frames of a pair alone, uint8 ``[T, 3, H, W]``."""
        return self.read_frames(self.read(index), index)


def _read_list(file: Path) -> list[tuple[str, str]]:
    """Label and file name of each row of a Kinetics list."""
    try:
        with file.open(newline='', encoding='utf-8') as opened:
            return [
                (
                    row['label'],
                    # The downloaders' name: seconds with six digits.
                    f'{row["youtube_id"]}_{int(row["time_start"]):06d}_{int(row["time_end"]):06d}.mp4',
                )
                for row in csv.DictReader(opened)
            ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f'{file}: not a list of Kinetics ({type(error).__name__} {error}): needs the columns label, youtube_id, '
            'time_start and time_end, the test list of the challenge has no labels'
        ) from error
