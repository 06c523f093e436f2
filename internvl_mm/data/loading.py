"""First steps of mmseg and mmdet pipelines: files to pixels and label maps, checked before any augmentation.

Both take and give the dicts of those pipelines: ``img`` uint8 ``[H, W, 3]`` in OpenCV's channel order (BGR), which
their transforms and data preprocessors (``bgr_to_rgb=True``) expect, and ``gt_seg_map``
``[H, W]``, uint8 or, for more than 255 labels, int32.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from internvl_mm.data.decode import BROKEN, MAX_PIXELS, ImageDecoder, read_file
from internvl_mm.registry import TRANSFORMS
from internvl_mm.utils.errors import DataError

Results = dict[str, Any]

IGNORE = 255  # the label of pixels that do not count
# How a file of indices may be stored: 8 bits, a palette's indices, one bit, 16 and 32 bits.
INDEX_MODES = ('L', 'P', '1', 'I;16', 'I;16B', 'I;16L', 'I')


@TRANSFORMS.register_module()
class LoadImage:
    """Decode the image of a sample; takes the place of ``LoadImageFromFile``.

    Greyscale, transparent and 16-bit files become RGB as :class:`ImageDecoder` does it. The default decoder turns
    pictures as their EXIF orientation says, as mmcv does.

    Args:
        decoder: An :class:`ImageDecoder` or its config.

    Raises:
        DataError: The file is bad, or has another size than its annotation says.
    """

    def __init__(self, decoder: ImageDecoder | dict | None = None):
        built = TRANSFORMS.build(decoder) if isinstance(decoder, dict) else decoder
        self.decoder = built or ImageDecoder(backend='cv2')

    def __call__(self, results: Results) -> Results:
        """Add ``img``, ``img_shape`` and ``ori_shape`` of ``results['img_path']``."""
        path = results['img_path']
        pixels = self.decoder.bgr(path)
        annotated = results.get('height', pixels.shape[0]), results.get('width', pixels.shape[1])
        if annotated != pixels.shape[:2]:
            raise _wrong_size(path, pixels.shape[:2], 'the annotation', annotated)
        results['img'] = pixels
        results['img_shape'] = results['ori_shape'] = pixels.shape[:2]  # height, width
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(decoder={self.decoder})'


@TRANSFORMS.register_module()
class LoadSegMap:
    """Read the label map of a sample; takes the place of mmseg's ``LoadAnnotations`` and comes after the image.

    ``reduce_zero_label`` and ``label_map`` of the data set are applied as there, without the wrap-around of 8 bits; a
    map of indices may have up to 32 bits. Labels are checked against the classes of the data set, so that a wrong
    setting stops at the first picture that shows it.

    Args:
        max_pixels: Most pixels a map may have.

    Raises:
        DataError: The file is missing or bad, has another size than its image, holds colours instead of indices, or
            labels beyond the classes.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS):
        self.max_pixels = max_pixels

    def __call__(self, results: Results) -> Results:
        """Add ``gt_seg_map``."""
        path = results['seg_map_path']
        labels = self._read(path)
        # Of the file, not of the image as it is by now: for testing, maps are read after resizing.
        size = results.get('ori_shape', labels.shape)
        if labels.shape != size:
            raise _wrong_size(results['img_path'], size, f'the label map {path}', labels.shape)
        classes = results.get('classes') or ()
        reduced = bool(results.get('reduce_zero_label'))
        if reduced:
            # 0 (no class) becomes ignored, 1 to C become 0 to C - 1; where bytes wrap around, IGNORE is taken.
            labels = np.where((labels == 0) | (labels == IGNORE), IGNORE, labels - 1)
        # In mmseg's order: label_map counts the classes after the reduction.
        if results.get('label_map'):
            labels = _renamed(labels, results['label_map'])
        if classes:
            _check_labels(labels, len(classes), reduced=reduced, path=path)
        # OpenCV, which resizes and pads maps, knows no 64-bit integers.
        results['gt_seg_map'] = labels.astype(np.uint8 if labels.max() <= IGNORE else np.int32, copy=False)
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results

    def _read(self, path: str) -> np.ndarray:
        """Indices ``[H, W]``, uint8 where the file holds bytes, else int64."""
        data = read_file(path)
        if not data:
            raise DataError(f'{path}: the label map is empty; copy it again')
        try:
            with Image.open(io.BytesIO(data), formats=('PNG', 'BMP', 'TIFF')) as image:
                if image.width * image.height > self.max_pixels:
                    raise DataError(
                        f'{path}: {image.width}×{image.height} pixels in the header, more than '
                        f'max_pixels={self.max_pixels:,}; refused before decoding'
                    )
                if image.mode not in INDEX_MODES:
                    raise DataError(
                        f'{path}: a label map holds one class index per pixel, but this file holds {image.mode} '
                        'colours: convert colours to indices with the palette they were drawn with'
                    )
                labels = np.array(image)
                # Bytes stay bytes, over which each of the steps to come runs several times as fast.
                return labels if labels.dtype == np.uint8 else labels.astype(np.int64)
        except Image.DecompressionBombError as error:
            raise DataError(f'{path}: refused before decoding, {error}') from error
        except DataError:
            raise
        except BROKEN as error:
            raise DataError(
                f'{path}: the label map is damaged or not a PNG, BMP or TIFF file ({error})'
            ) from error

    def __repr__(self) -> str:
        return f'{type(self).__name__}(max_pixels={self.max_pixels})'


def _renamed(labels: np.ndarray, label_map: dict[int, int]) -> np.ndarray:
    """Labels of a data set whose classes were chosen or reordered (its ``metainfo``), in int64."""
    renamed = labels.astype(np.int64)
    for old, new in label_map.items():
        # Found in the original: where classes swap places, none may be renamed twice.
        renamed[labels == old] = new
    return renamed


def _check_labels(labels: np.ndarray, num_classes: int, *, reduced: bool, path: str) -> None:
    outside = np.unique(labels[(labels != IGNORE) & ((labels < 0) | (labels >= num_classes))])
    if not len(outside):
        return
    hint = f'give the data set the classes its maps were drawn with, or correct them ({IGNORE} is ignored)'
    if outside.tolist() == [num_classes] and not reduced:
        # ids 0 to C: the usual sign of "0 = other objects"
        hint = f'if 0 means "no class" in these maps, set reduce_zero_label=True of the data set; else {hint}'
    shown = ', '.join(map(str, outside[:5].tolist()))
    raise DataError(
        f'{path}: labels {shown} are outside the {num_classes} classes (0 to {num_classes - 1}'
        f'{", after reduce_zero_label" if reduced else ""}): {hint}'
    )


def _wrong_size(path: str, image: tuple[int, ...], what: str, annotated: tuple[int, ...]) -> DataError:
    hint = 'pair each image with its own annotation'
    if image == annotated[::-1]:
        hint = (
            'if the picture was turned by its EXIF orientation and the annotation was not, read it unturned with '
            "LoadImage(decoder=dict(type=ImageDecoder, backend='pil'))"
        )
    return DataError(
        f'{path} has {image[0]}×{image[1]} pixels (height × width), but {what} {annotated[0]}×{annotated[1]}: {hint}'
    )
