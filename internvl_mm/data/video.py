"""Frames of a video: files through PyAV, folders of pictures, and GIFs, with one interface."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import av
from PIL import Image, ImageSequence

from internvl_mm.data.decode import BROKEN, MAX_PIXELS, ImageDecoder
from internvl_mm.utils.errors import DataError

FRAME_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp')
FOLDER_FPS = 3.0  # frames per second that published folders of frames were made with


class Video(ABC):
    """A sequence of RGB frames.

    Attributes:
        path: Where it is, for messages.
        num_frames: Number of frames.
        fps: Average frames per second.
        first: Number that the first frame has in the published index rule: 0, in folders 1.
    """

    first = 0

    def __init__(self, path: str, num_frames: int, fps: float):
        if num_frames < 1:
            raise DataError(f'{path}: the video has no frames; copy it again, or remove the sample')
        self.path, self.num_frames, self.fps = path, num_frames, fps

    @abstractmethod
    def read(self, positions: Sequence[int]) -> list[Image.Image]:
        """Frames at positions from 0, which may repeat and need no order.

        Raises:
            DataError: One cannot be decoded.
        """


def open_video(path: str | Path, *, decoder: ImageDecoder | None = None, fps: float = FOLDER_FPS) -> Video:
    """Open a video.

    Args:
        path: A folder of pictures (ordered by the number at the end of their names), a ``.gif``, or any video file.
        decoder: For the pictures of a folder; its ``max_pixels`` bounds the frames of every kind.
        fps: Frames per second of a folder.

    Raises:
        DataError: There is no such video, it is damaged, or has no frames.
    """
    decoder = decoder or ImageDecoder()
    place = Path(path)
    if place.is_dir():
        return FrameFolder(place, fps, decoder)
    if not place.is_file():
        raise DataError(f'{path}: there is no such video; check the root folder of the data set')
    if place.suffix.lower() == '.gif':
        return GifVideo(place, decoder.max_pixels)
    return VideoFile(place, decoder.max_pixels)


class FrameFolder(Video):
    """Frames as pictures in a folder."""

    # Published folders number their frames from 1 (%05d.jpg).
    first = 1

    def __init__(self, path: Path, fps: float, decoder: ImageDecoder):
        files = [file for file in path.iterdir() if file.suffix.lower() in FRAME_SUFFIXES]
        self.files = sorted(files, key=_number)
        self.decoder = decoder
        super().__init__(str(path), len(files), fps)

    def read(self, positions: Sequence[int]) -> list[Image.Image]:
        """See :meth:`Video.read`."""
        # Each file once, however often its position is asked for.
        frames = {position: self.decoder(self.files[position]) for position in set(positions)}
        return [frames[position] for position in positions]


class GifVideo(Video):
    """Frames of an animated GIF."""

    def __init__(self, path: Path, max_pixels: int):
        try:
            image = Image.open(path, formats=('GIF',))
            _check_size(str(path), *image.size, max_pixels)
            count = getattr(image, 'n_frames', 1)
            # Milliseconds per frame; 0 and absent mean the 100 that viewers take.
            duration = image.info.get('duration') or 100
        except BROKEN as error:
            raise DataError(f'{path}: not a readable GIF ({error})') from error
        super().__init__(str(path), count, 1000 / duration)  # frames per second

    def read(self, positions: Sequence[int]) -> list[Image.Image]:
        """See :meth:`Video.read`."""
        wanted, frames = set(positions), {}
        try:
            with Image.open(self.path, formats=('GIF',)) as image:
                # In turn from the first: a frame of a GIF may hold only what has changed.
                for position, frame in enumerate(ImageSequence.Iterator(image)):
                    if position in wanted:
                        frames[position] = frame.convert('RGB')
        except BROKEN as error:
            raise DataError(f'{self.path}: truncated or damaged GIF ({error})') from error
        return [frames[position] for position in positions]


class VideoFile(Video):
    """A video file, decoded from its beginning: positions are exact for any codec and container."""

    def __init__(self, path: Path, max_pixels: int):
        try:
            # A file object, so that no name can make FFmpeg fetch something else than this file.
            with path.open('rb') as file, av.open(file, 'r') as container:
                if not container.streams.video:
                    raise DataError(
                        f'{path}: the file has no video, only {len(container.streams)} other streams'
                    )
                stream = container.streams.video[0]
                _check_size(str(path), stream.codec_context.width, stream.codec_context.height, max_pixels)
                rate = float(stream.average_rate or stream.base_rate or 0)
                # Some containers do not say how many frames they hold; their packets do, without decoding.
                # Empty is the last packet, with which PyAV flushes the decoder.
                count = stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
        except (av.FFmpegError, OSError, ValueError) as error:
            # Also a ValueError: what was refused above keeps its words.
            if isinstance(error, DataError):
                raise
            raise DataError(f'{path}: not a readable video ({error}); copy it again') from error
        if rate <= 0:
            raise DataError(f'{path}: the video gives no frame rate; encode it again')
        super().__init__(str(path), count, rate)

    def read(self, positions: Sequence[int]) -> list[Image.Image]:
        """See :meth:`Video.read`."""
        wanted, last, frames = set(positions), max(positions), {}
        try:
            with open(self.path, 'rb') as file, av.open(file, 'r') as container:
                stream = container.streams.video[0]
                # By slices alone, PyAV's default, most codecs would be decoded on one core.
                stream.thread_type = 'AUTO'
                for position, frame in enumerate(container.decode(stream)):
                    if position in wanted:
                        frames[position] = frame.to_image()
                    if position >= last:
                        break
        except (av.FFmpegError, OSError) as error:
            raise DataError(f'{self.path}: damaged after {len(frames)} frames ({error})') from error
        if missing := sorted(wanted - set(frames)):
            raise DataError(
                f'{self.path}: promises {self.num_frames} frames, but frame {missing[0]} is not there; it is truncated'
            )
        return [frames[position] for position in positions]


def _number(file: Path) -> tuple[int, str]:
    """Order by the number at the end of the name, as ``frame_10.jpg`` after ``frame_9.jpg``; names without first."""
    match = re.search(r'(\d+)$', file.stem)
    return (int(match[1]) if match else -1, file.name)


def _check_size(path: str, width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    if width * height > max_pixels:
        raise DataError(
            f'{path}: frames of {width}×{height} pixels, more than max_pixels={max_pixels:,}; refused'
        )
