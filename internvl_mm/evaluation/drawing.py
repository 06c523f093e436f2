"""Predictions and labels drawn over pictures: one function per kind of task.

Pictures are PIL images in RGB; every function returns a new one of the same size, except for captions below.
"""

from __future__ import annotations

import colorsys
import textwrap
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks

Colour = tuple[int, int, int]
LINE = 14  # pixels of a line of text in Pillow's own font
LETTER = 6  # pixels of a letter, on average
GOLDEN = 0.618034  # share of the circle of hues from one class to the next: neighbours never look alike


def class_colours(count: int) -> list[Colour]:
    """Colours that tell classes apart, always the same for the same class."""
    colours = []
    for index in range(count):
        # Three levels of brightness, since hues repeat to the eye after some twenty classes.
        red, green, blue = colorsys.hsv_to_rgb(index * GOLDEN % 1, 0.75, (1.0, 0.8, 0.6)[index % 3])
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return colours


def draw_scores(picture: Image.Image, names: Sequence[str], scores: Sequence[float]) -> Image.Image:
    """The picture with its best classes below, one per line.

    Args:
        picture: What was classified.
        names: Classes, best first.
        scores: Their probabilities.
    """
    return _captioned(picture, [f'{score:.1%} {name}' for name, score in zip(names, scores, strict=True)])


def draw_classes(
    picture: Image.Image, labels: Tensor, *, opacity: float = 0.55, ignore: int = 255
) -> Image.Image:
    """The picture under the colours of its pixels' classes.

    Args:
        picture: Of W × H pixels.
        labels: Class of each pixel ``[H, W]``.
        opacity: Of the colours, from 0 to 1.
        ignore: Label of pixels that stay clear.
    """
    present = [label for label in labels.unique().tolist() if label >= 0 and label != ignore]
    if not present:
        return picture.copy()
    # unique() sorts, so the last class is the largest.
    colours = class_colours(present[-1] + 1)
    # [K, H, W], one mask for each class that occurs.
    masks = torch.stack([labels == label for label in present])
    drawn = draw_segmentation_masks(
        pil_to_tensor(picture), masks, alpha=opacity, colors=[colours[label] for label in present]
    )
    return to_pil_image(drawn)


def draw_objects(
    picture: Image.Image,
    boxes: Tensor,
    labels: Sequence[int],
    captions: Sequence[str],
    masks: Tensor | None = None,
) -> Image.Image:
    """The picture with boxes, what they hold, and the masks of their objects.

    Args:
        picture: Of W × H pixels.
        boxes: (x1, y1, x2, y2) in pixels ``[N, 4]``; inverted ones are left out.
        labels: Class per box, which gives its colour.
        captions: Text per box.
        masks: Pixels of each object, bool ``[N, H, W]``.
    """
    kept = [index for index, (x1, y1, x2, y2) in enumerate(boxes.tolist()) if x1 <= x2 and y1 <= y2]
    if not kept:
        return picture.copy()
    palette = class_colours(max(labels) + 1)
    colours, captions = [palette[labels[index]] for index in kept], [captions[index] for index in kept]
    pixels = pil_to_tensor(picture)
    if masks is not None:
        pixels = draw_segmentation_masks(pixels, masks[kept].bool(), alpha=0.5, colors=colours)
    # A line of one pixel would not show on a large picture.
    width = max(1, min(picture.size) // 200)
    return to_pil_image(draw_bounding_boxes(pixels, boxes[kept], captions, colours, width=width))


def side_by_side(pictures: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """Pictures of one size in a row, each with its title below."""
    titled = [_captioned(picture, [title]) for picture, title in zip(pictures, titles, strict=True)]
    gap = 4  # pixels
    width = sum(picture.width + gap for picture in titled) - gap
    sheet = Image.new('RGB', (width, max(picture.height for picture in titled)), 'white')
    left = 0
    for picture in titled:
        sheet.paste(picture, (left, 0))
        left += picture.width + gap
    return sheet


def _captioned(picture: Image.Image, lines: Sequence[str]) -> Image.Image:
    # Long names continue on the next line instead of running out of a narrow picture.
    columns = max(8, picture.width // LETTER)
    lines = [part for line in lines for part in textwrap.wrap(line, columns) or ['']]
    sheet = Image.new('RGB', (picture.width, picture.height + LINE * len(lines) + 2), 'white')
    sheet.paste(picture, (0, 0))
    ImageDraw.Draw(sheet).multiline_text((2, picture.height), '\n'.join(lines), fill='black', spacing=2)
    return sheet
