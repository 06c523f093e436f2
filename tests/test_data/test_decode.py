from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import mmcv
import numpy as np
import pytest
from PIL import Image, ImageFile

from internvl_mm.data.decode import ImageDecoder
from internvl_mm.utils.errors import ConfigError, DataError
from tests.cases import image_bytes

BACKENDS = ('pil', 'cv2')


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(side: int = 200) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
        )

    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(b''))
        + chunk(b'IEND', b'')
    )


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'GIF', 'WEBP'])
def test_lossless_formats_come_back_exactly(backend: str, kind: str):
    image = noise(24).quantize(64).convert('RGB')
    options = dict(lossless=True) if kind == 'WEBP' else {}
    decoded = ImageDecoder(backend)(encoded(image, kind, **options))
    assert decoded.mode == 'RGB'
    assert np.array_equal(np.asarray(decoded), np.asarray(image))


def test_pil_backend_is_pillow_and_cv2_backend_is_what_mmcv_reads():
    data = encoded(noise(64), 'JPEG', quality=70)
    assert np.array_equal(np.asarray(ImageDecoder('pil')(data)), np.asarray(Image.open(io.BytesIO(data))))
    assert np.array_equal(np.asarray(ImageDecoder('cv2')(data)), mmcv.imfrombytes(data)[..., ::-1])


@pytest.mark.parametrize('backend', BACKENDS)
def test_the_same_pixels_in_opencvs_order(backend: str, tmp_path: Path):
    data = encoded(noise(64), 'JPEG', quality=70)
    pixels = ImageDecoder(backend).bgr(data)
    assert pixels.flags.c_contiguous and pixels.flags.writeable
    assert np.array_equal(pixels[..., ::-1], np.asarray(ImageDecoder(backend)(data)))
    (tmp_path / 'bomb.png').write_bytes(png_header(100_000, 100_000))
    with pytest.raises(DataError, match=r'bomb\.png: .*refused before decoding'):
        ImageDecoder(backend).bgr(tmp_path / 'bomb.png')


def test_orientation_is_handled_as_each_published_reader_did():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° to display
    data = encoded(noise(16).resize((32, 16)), 'JPEG', exif=exif)
    assert ImageDecoder('pil')(data).size == (32, 16)
    assert ImageDecoder('cv2')(data).size == (16, 32) == mmcv.imfrombytes(data).shape[1::-1]
    # Plans of tiles are made from headers: of the picture as it will be.
    assert [ImageDecoder(backend).size(data) for backend in ('pil', 'cv2')] == [(32, 16), (16, 32)]


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('backend', ['pil', 'cv2'])
def test_the_size_in_the_header_is_that_of_the_pixels(kind: str, backend: str):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(noise(16).resize((32, 16)), kind, exif=exif)
    decoder = ImageDecoder(backend, formats=(kind,))
    assert decoder.size(data) == decoder(data).size


@pytest.mark.parametrize('mode', ['P', 'RGBA', 'L', 'LA', '1', 'CMYK'])
def test_other_modes_become_rgb_as_pillow_converts_them(mode: str):
    image = noise(16).convert(mode)
    data = encoded(image, 'TIFF' if mode == 'CMYK' else 'PNG')
    decoded = ImageDecoder(formats=('PNG', 'TIFF'))(data)
    assert np.array_equal(np.asarray(decoded), np.asarray(image.convert('RGB')))


@pytest.mark.parametrize('backend', BACKENDS)
def test_sixteen_bit_greys_are_scaled_not_clipped(backend: str):
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    decoded = np.asarray(ImageDecoder(backend)(encoded(Image.fromarray(levels), 'PNG')))
    assert np.abs(decoded[..., 0].astype(int) - levels // 257).max() <= 1


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'BMP', 'GIF'])
@pytest.mark.parametrize('share', [0.05, 0.5, 0.9])
def test_truncated_files_are_refused(backend: str, kind: str, share: float):
    data = encoded(noise(), kind)
    with pytest.raises(DataError, match='cat.jpg: .*(truncated|damaged|not an image)'):
        ImageDecoder(backend)(data[: int(len(data) * share)], 'cat.jpg')


@pytest.mark.parametrize('backend', BACKENDS)
def test_a_bomb_is_refused_by_its_header(backend: str):
    for width, height in ((9_000, 9_000), (60_000, 60_000)):  # above our cap, and above Pillow's own
        with pytest.raises(DataError, match='bomb.png: .*refused before decoding'):
            ImageDecoder(backend)(png_header(width, height), 'bomb.png')


def test_the_cap_can_be_lowered():
    assert ImageDecoder(max_pixels=320)(image_bytes(size=(20, 16))).size == (20, 16)
    with pytest.raises(DataError, match='20×16 pixels in the header, more than max_pixels=319'):
        ImageDecoder(max_pixels=319)(image_bytes(size=(20, 16)))


@pytest.mark.parametrize('data', [b'plain text', b'\x00' * 100, b'<svg></svg>'])
def test_other_content_is_refused_whatever_the_extension_says(data: bytes, tmp_path: Path):
    (tmp_path / 'cat.jpg').write_bytes(data)
    with pytest.raises(DataError, match='cat.jpg: not an image of an allowed format'):
        ImageDecoder()(tmp_path / 'cat.jpg')


@pytest.mark.parametrize('backend', BACKENDS)
def test_tiff_has_to_be_asked_for(backend: str):
    data = encoded(noise(8), 'TIFF')
    with pytest.raises(DataError, match='possible besides: TIFF'):
        ImageDecoder(backend)(data)
    assert ImageDecoder(backend, formats=('TIFF',))(data).size == (8, 8)


def test_a_wrong_extension_does_not_matter_when_the_content_is_allowed(tmp_path: Path):
    (tmp_path / 'cat.jpg').write_bytes(image_bytes(kind='PNG'))
    assert ImageDecoder()(str(tmp_path / 'cat.jpg')).size == (20, 16)


def test_missing_and_empty_files_are_named(tmp_path: Path):
    with pytest.raises(DataError, match='gone.png: cannot be read .No such file'):
        ImageDecoder()(tmp_path / 'gone.png')
    (tmp_path / 'empty.png').touch()
    with pytest.raises(DataError, match='empty.png: the file is empty'):
        ImageDecoder()(tmp_path / 'empty.png')


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="backend='cv' is not a decoder.*Did you mean 'cv2'"):
        ImageDecoder('cv')
    with pytest.raises(ConfigError, match="formats=.'EPS'. cannot be allowed"):
        ImageDecoder(formats=('PNG', 'EPS'))


def test_pillows_own_bounds_are_left_alone():
    before = Image.MAX_IMAGE_PIXELS
    ImageDecoder(max_pixels=10**9)(image_bytes())
    assert Image.MAX_IMAGE_PIXELS == before and not ImageFile.LOAD_TRUNCATED_IMAGES
