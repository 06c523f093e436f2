"""Bytes of an image file to an RGB picture, with bounds that hold before any pixel is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from internvl_mm.registry import TRANSFORMS
from internvl_mm.utils.errors import ConfigError, DataError, did_you_mean

# Read by default. TIFF is left out because its decoders are the least hardened; name it in ``formats`` to allow it.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'GIF')
OPTIONAL_FORMATS = ('TIFF',)
BACKENDS = ('pil', 'cv2')
MAX_PIXELS = 64_000_000  # 8,000 × 8,000: 192 MB as RGB
# What Pillow's decoders raise for damaged files, beside its own OSError subclasses.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)

_ORIENTATION = 0x0112  # EXIF's tag of how a camera was held
_LYING = (5, 6, 7, 8)  # its values that swap width and height
_TURNED = ('JPEG', 'PNG')  # what OpenCV turns by it; of a TIFF Pillow's header has the turned size already


@TRANSFORMS.register_module()
@dataclass(frozen=True)
class ImageDecoder:
    """Decode an image file, given as bytes or as a path, to an RGB PIL image.

    The format and the size are read from the header first, with either backend, so a wrong format or a decompression
    bomb costs nothing. Multi-frame files give their first frame; transparency is dropped.

    Args:
        backend: ``'pil'``, or ``'cv2'`` as the published ImageNet-1K and ReaL numbers were made with. As published,
            only ``'cv2'`` turns the picture as its EXIF orientation says.
        max_pixels: Most pixels (width × height) a picture may have.
        formats: Formats to read, named as Pillow does.
    """

    backend: Literal['pil', 'cv2'] = 'pil'
    max_pixels: int = MAX_PIXELS
    formats: tuple[str, ...] = FORMATS

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            hint = did_you_mean(self.backend, BACKENDS)
            raise ConfigError(f"backend='{self.backend}' is not a decoder: use 'pil' or 'cv2'.{hint}")
        unknown = sorted(set(self.formats) - set(FORMATS + OPTIONAL_FORMATS))
        if unknown:
            raise ConfigError(
                f'formats={unknown} cannot be allowed: choose from {FORMATS + OPTIONAL_FORMATS}'
            )

    def __call__(self, source: bytes | str | Path, path: str | None = None) -> Image.Image:
        """Decode one image.

        Args:
            source: The file's bytes, or where it is.
            path: What to call it in errors; by default ``source`` if that is a path.

        Raises:
            DataError: The file is missing, empty, damaged, too large or of a format that is not allowed.
        """
        data, name = _bytes_of(source)
        header = self._open(data, path or name)
        if self.backend == 'pil':
            return _decode_pil(header, path or name)
        return Image.fromarray(cv2.cvtColor(_decode_cv2(data, path or name), cv2.COLOR_BGR2RGB))

    def bgr(self, source: bytes | str | Path) -> np.ndarray:
        """The same pixels as OpenCV orders them, uint8 ``[H, W, 3]``; with its backend they never were anything else.

        Args:
            source: See :meth:`__call__`, as for errors.
        """
        if self.backend == 'pil':
            # By OpenCV: a copy of a reversed view takes as long as decoding.
            return cv2.cvtColor(np.asarray(self(source)), cv2.COLOR_RGB2BGR)
        data, name = _bytes_of(source)
        self._open(data, name)  # refuses what the header gives away
        return _decode_cv2(data, name)

    def size(self, source: bytes | str | Path) -> tuple[int, int]:
        """(width, height) of what :meth:`__call__` gives, from the header alone; see there for arguments and errors."""
        image = self._open(*_bytes_of(source))
        width, height = image.size
        may_turn = self.backend == 'cv2' and image.format in _TURNED
        turned = may_turn and image.getexif().get(_ORIENTATION) in _LYING
        return (height, width) if turned else (width, height)

    def _open(self, data: bytes, name: str) -> Image.Image:
        """Parse the header, which decodes no pixels, and check what it promises."""
        if not data:
            raise DataError(f'{name}: the file is empty; copy it again')
        try:
            # With a list of formats only those parsers see the bytes; Pillow would try all it has.
            image = Image.open(io.BytesIO(data), formats=self.formats)
        except Image.DecompressionBombError as error:
            raise DataError(f'{name}: refused before decoding, {error}') from error
        except Image.UnidentifiedImageError as error:
            raise DataError(
                f'{name}: not an image of an allowed format (starts with {data[:8]!r}, allowed are '
                f"{', '.join(self.formats)}); convert it, or name its format in the decoder's formats "
                f'(possible besides: {", ".join(OPTIONAL_FORMATS)})'
            ) from error
        except BROKEN as error:
            raise DataError(f'{name}: the header is damaged ({error}); copy the file again') from error
        width, height = image.size
        if width * height > self.max_pixels:
            raise DataError(
                f'{name}: {width}×{height} pixels in the header, more than max_pixels={self.max_pixels:,}; refused '
                'before decoding. Shrink the picture, or raise max_pixels of the decoder if you trust the source'
            )
        return image


def decoder_of(setting: ImageDecoder | dict | None) -> ImageDecoder:
    """The decoder a setting stands for: itself, built from its config, or the usual one."""
    return TRANSFORMS.build(setting) if isinstance(setting, dict) else setting or ImageDecoder()


def _bytes_of(source: bytes | str | Path) -> tuple[bytes, str]:
    """A file's bytes, and what to call it in errors."""
    if isinstance(source, bytes):
        return source, f'{len(source)} bytes'
    return read_file(source), str(source)


def read_file(path: str | Path) -> bytes:
    """Return a file's bytes.

    Raises:
        DataError: There is no such file, or it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(
            f'{path}: cannot be read ({error.strerror}); check the root folder of the data set'
        ) from error


def _decode_pil(image: Image.Image, name: str) -> Image.Image:
    try:
        if image.mode.startswith('I;16'):
            # Pillow clips 16-bit greys at 255, which leaves a white picture; keep the upper 8 bits instead.
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return image.convert('RGB')
    except BROKEN as error:
        raise DataError(f'{name}: truncated or damaged ({error}); copy the file again') from error


def _decode_cv2(data: bytes, name: str) -> np.ndarray:
    try:
        # IMREAD_COLOR: three channels of 8 bits whatever the file holds, turned as EXIF says.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(f'{name}: OpenCV cannot decode it ({error})') from error
    if pixels is None:
        raise DataError(f'{name}: truncated or damaged (OpenCV cannot decode it); copy the file again')
    return pixels
