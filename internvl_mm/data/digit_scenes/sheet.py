"""A sheet of paper for pictures and text, grown row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

WIDTH, MARGIN, GAP, TILE, SMALL_TILE, LINE = 1600, 28, 10, 224, 77, 20  # pixels
PAPER, INK, SOFT, RULE = (251, 251, 249), (36, 36, 40), (112, 112, 120), (218, 218, 214)
Colour = tuple[int, ...]

FONT_FOLDERS = (
    '/usr/share/fonts',
    '/usr/local/share/fonts',
    '~/.local/share/fonts',
    '~/.fonts',
    '/System/Library/Fonts',
    '/Library/Fonts',
    'C:/Windows/Fonts',
)
# Beginnings of the file names of common fonts with Chinese characters, best first.
CJK_FONTS = (
    'NotoSansCJK',
    'NotoSansSC',
    'SourceHanSans',
    'wqy',
    'DroidSansFallback',
    'PingFang',
    'STHeiti',
    'Hiragino Sans GB',
    'msyh',
    'simhei',
    'simsun',
)


def find_cjk_font(folders: Sequence[str] = FONT_FOLDERS) -> Path | None:
    """Return the file of an installed font with Chinese characters, or None."""
    # .ttf, .otf and .ttc
    files = [file for folder in folders for file in sorted(Path(folder).expanduser().rglob('*.[to]t[fc]'))]
    for beginning in CJK_FONTS:
        for file in files:
            if file.name.lower().startswith(beginning.lower()):
                return file
    return None


class Line(NamedTuple):
    """A paragraph with a mark in front (``Q``, ``A`` or nothing)."""

    mark: str
    text: str
    colour: Colour = INK


class Sheet:
    """A page that collects drawings from top to bottom and is as high as they need.

    Args:
        font: Font file for all text; by default the one that comes with Pillow, which has no Chinese.
    """

    def __init__(self, font: Path | None = None) -> None:
        self.font_file = font
        self.page = Image.new('RGB', (WIDTH, 1000), PAPER)  # grows
        self.y = MARGIN

    def title(self, text: str, subtitle: str) -> None:
        """Head of the sheet."""
        self._write(MARGIN, self.y, text, size=30)
        self._write(MARGIN, self.y + 42, subtitle, SOFT)
        self.y += 76

    def section(self, name: str, meaning: str) -> None:
        """A rule, the name of what follows and what it is."""
        self._grow(60)
        ImageDraw.Draw(self.page).line([(MARGIN, self.y), (WIDTH - MARGIN, self.y)], RULE)
        self._write(MARGIN, self.y + 12, name, size=20)
        self._write(MARGIN + self._font(20).getlength(name) + 16, self.y + 17, meaning, SOFT)
        self.y += 50

    def strip(self, pictures: Sequence[Image.Image]) -> None:
        """Small pictures side by side, in as many rows as they need."""
        # 17; + GAP since there is none behind the last.
        per_row = (WIDTH - 2 * MARGIN + GAP) // (SMALL_TILE + GAP)
        for start in range(0, len(pictures), per_row):
            self._tiles(pictures[start : start + per_row], SMALL_TILE)
            self.y += SMALL_TILE + GAP
        self.y += GAP

    def row(self, pictures: Sequence[Image.Image], lines: Sequence[Line]) -> None:
        """Pictures with text at their right; pictures shrink when there are more than three."""
        # However many: together never wider than three, since the text begins there.
        tile = TILE if len(pictures) <= 3 else (3 * TILE + 2 * GAP) // len(pictures) - GAP
        left = MARGIN + 3 * (TILE + GAP) + GAP  # px: text begins at the same place in every row
        # 24 px: the column of the marks.
        text = [part for line in lines for part in self._wrap(line, WIDTH - MARGIN - left - 24)]
        height = max(tile, LINE * len(text))
        self._grow(height)
        self._tiles(pictures, tile)
        for number, (mark, words, colour) in enumerate(text):
            self._write(left, self.y + LINE * number, mark, SOFT)
            self._write(left + 24, self.y + LINE * number, words, colour)
        self.y += height + 2 * GAP

    def note(self, text: str) -> None:
        """A remark."""
        self._grow(2 * LINE)
        self._write(MARGIN, self.y, text, SOFT)
        self.y += LINE + GAP

    def boxed(
        self, picture: Image.Image, boxes: Sequence[tuple[Sequence[float], str, Colour]]
    ) -> Image.Image:
        """Return the picture at tile size with boxes, given as (corners in tile pixels, label, colour), drawn on it."""
        tile = _fit(picture, TILE)
        draw = ImageDraw.Draw(tile)
        for corners, label, colour in boxes:
            x1, y1, x2, y2 = corners
            # Corners are exclusive, what Pillow draws is inclusive.
            draw.rectangle([x1, y1, x2 - 1, y2 - 1], outline=colour, width=2)
            top = max(0, y1 - 16)
            # A plate for one figure of 13 px, above the box where there is room.
            draw.rectangle([x1, top, x1 + 13, top + 16], fill=colour)
            draw.text((x1 + 3, top + 1), label, INK, self._font(13))
        return tile

    def finish(self) -> Image.Image:
        """Return the page, cut below the last drawing."""
        return self.page.crop((0, 0, WIDTH, self.y + MARGIN))

    def _font(self, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return _load_font(self.font_file, size)

    def _write(self, x: float, y: float, text: str, colour: Colour = INK, size: int = 15) -> None:
        ImageDraw.Draw(self.page).text((x, y), text, colour, self._font(size))

    def _grow(self, height: int) -> None:
        """Make room for ``height`` pixels below the current position."""
        needed = self.y + height + MARGIN
        if needed > self.page.height:
            # Twice what is needed: a page that grew by rows would be copied for each of them.
            page = Image.new('RGB', (WIDTH, 2 * needed), PAPER)
            page.paste(self.page)
            self.page = page

    def _tiles(self, pictures: Sequence[Image.Image], side: int) -> None:
        self._grow(side)
        for number, picture in enumerate(pictures):
            self.page.paste(_fit(picture, side), (MARGIN + number * (side + GAP), self.y))

    def _wrap(self, line: Line, width: float) -> Iterator[Line]:
        """Break a paragraph into lines: at spaces, and after any Chinese character."""
        font, mark, current = self._font(15), line.mark, ''
        for word in _words(line.text):
            if current and font.getlength(current + word.rstrip()) > width:
                yield Line(mark, current.rstrip(), line.colour)
                mark, current = '', ''
            current += word
        yield Line(mark, current, line.colour)


@lru_cache
def _load_font(file: Path | None, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size) if file is None else ImageFont.truetype(str(file), size)


def _fit(picture: Image.Image, side: int) -> Image.Image:
    """The picture scaled so that its longer side is ``side``; pixels stay visible as squares."""
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST)


def _words(text: str) -> Iterator[str]:
    """Pieces a line may be broken between: words with their space, single Chinese characters."""
    word = ''
    for character in text:
        word += character
        if character == ' ' or ord(character) > 0x2E80:  # from here on: East Asian scripts
            yield word
            word = ''
    yield word
