"""Image–caption pairs as lists: published files, cleaning, filtering, compact storage."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from internvl_mm.registry import TRANSFORMS
from internvl_mm.utils.console import console
from internvl_mm.utils.errors import ConfigError, DataError, did_you_mean

# The signs of BLIP's pre_caption: commas, hyphens and apostrophes stay.
_SIGNS = re.compile(r'[.!"()*#:;~]')
_SPACES = re.compile(r'\s{2,}')


@dataclass(frozen=True)
class Pair:
    """One caption of one image.

    Attributes:
        image: Path of the image, relative to the root of the data set.
        caption: The text.
        image_id: What captions of one image share.
        row: Everything the file says, for filters.
    """

    image: str
    caption: str
    image_id: str
    row: dict[str, Any]


@TRANSFORMS.register_module()
class CleanCaption:
    """The published cleaning of Flickr30k and COCO captions: lower case, no punctuation, so many words.

    Args:
        max_words: Words kept, from the first.

    Source: InternVL ``internvl_g`` data sets (after BLIP).
    """

    def __init__(self, max_words: int = 50):
        self.max_words = max_words

    def __call__(self, text: str) -> str:
        """Clean one caption."""
        # In this order: signs become spaces, then runs of spaces one.
        text = _SPACES.sub(' ', _SIGNS.sub(' ', text.lower())).strip()
        return ' '.join(text.split(' ')[: self.max_words])

    def __repr__(self) -> str:
        return f'CleanCaption({self.max_words})'


@TRANSFORMS.register_module()
class PairFilter:
    """Which pairs to train on; says how many it leaves out and why.

    Args:
        min_words: Fewest words; 1 leaves out empty captions only.
        max_words: Most words.
        languages: Codes to keep, as in the field ``language`` of the rows; all when left out.
        min_score: Smallest value of the field ``score_key``, for example an image–text similarity.
        score_key: Name of that field.
        min_side: Shortest side of the image in pixels, from fields ``width`` and ``height`` where there are any.
        max_aspect: Largest ratio of long to short side, likewise.
    """

    def __init__(
        self,
        *,
        min_words: int = 1,
        max_words: int | None = None,
        languages: Sequence[str] | None = None,
        min_score: float | None = None,
        score_key: str = 'similarity',
        min_side: int = 1,
        max_aspect: float | None = None,
    ):
        if max_words is not None and max_words < min_words:
            raise ConfigError(f'max_words={max_words} is below min_words={min_words}: nothing would be kept')
        self.min_words, self.max_words = min_words, max_words
        self.languages = None if languages is None else tuple(languages)
        self.min_score, self.score_key = min_score, score_key
        self.min_side, self.max_aspect = min_side, max_aspect

    def __call__(self, pairs: Iterable[Pair], name: str) -> list[Pair]:
        """Keep the good pairs of the data set ``name``.

        Raises:
            DataError: A language that no pair has, a field that is no number, or nothing is left.
        """
        kept, left_out, seen = [], Counter[str](), Counter[str]()
        for pair in pairs:
            # 'None' where rows name no language, so that the message below can say so.
            seen[str(pair.row.get('language'))] += 1
            reason = self.reason(pair)
            if reason is None:
                kept.append(pair)
            else:
                left_out[reason] += 1
        for code in self.languages or ():
            if code not in seen:
                known = sorted(seen)
                raise DataError(
                    f"{name}: no caption is in language '{code}'; there are {', '.join(known)}."
                    + did_you_mean(code, known)
                )
        if left_out:
            told = ', '.join(f'{count} {reason}' for reason, count in left_out.most_common())
            console.print(f'{name}: left out {left_out.total()} of {seen.total()} pairs: {told}')
        if not kept:
            raise DataError(f'{name}: the filter leaves no pair of {seen.total()}')
        return kept

    def reason(self, pair: Pair) -> str | None:
        """Why a pair is left out; ``None`` for a good one."""
        # Chinese is written without spaces: each sign counts as a word.
        words = len(re.findall(r'[\u3400-\u9fff]|[^\s\u3400-\u9fff]+', pair.caption))
        width, height = (_number(pair, side) for side in ('width', 'height'))
        if words < self.min_words:
            return 'too short' if words else 'without caption'
        if self.max_words is not None and words > self.max_words:
            return 'too long'
        if self.languages is not None and pair.row.get('language') not in self.languages:
            return 'in other languages'
        # A pair without the field counts as 0: nothing vouches for it.
        if self.min_score is not None and _number(pair, self.score_key) < self.min_score:
            return f'of low {self.score_key}'
        # Files that tell no size are not measured: filtering opens no picture.
        if width and height:
            if min(width, height) < self.min_side:
                return 'too small'
            if self.max_aspect is not None and max(width, height) / min(width, height) > self.max_aspect:
                return 'too elongated'
        return None

    def __repr__(self) -> str:
        return f'PairFilter({vars(self)})'


def _number(pair: Pair, field: str) -> float:
    """A field of a row as a number, 0 where it is missing or empty."""
    value = pair.row.get(field) or 0
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise DataError(f'{pair.image}: {field}={value!r:.60} is no number, and PairFilter compares it')
    return number


class TextTable(Sequence[str]):
    """Many texts in two arrays, which worker processes share without copying.

    Args:
        texts: What to hold.
    """

    def __init__(self, texts: Iterable[str]):
        encoded = [text.encode() for text in texts]
        self._bytes = np.frombuffer(b''.join(encoded), np.uint8)
        # In bytes, not letters: of a text with signs of several bytes nothing is cut apart.
        self._ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        # Ends alone are kept: a text begins where the one before it ends.
        start = self._ends[index - 1] if index else 0
        return bytes(self._bytes[start : self._ends[index]]).decode()


def read_pairs(file: str | Path) -> Iterator[Pair]:
    """Pairs of a published retrieval file, told by its ending and content.

    - ``.jsonl``: an object per line with ``image`` and ``caption``.
    - ``.json``: a list of such objects (Karpathy's splits; ``caption`` may be a list; MSR-VTT says ``video`` instead
      of ``image``), or COCO's ``images`` and ``annotations``; images without an annotation are counted aloud.
    - ``.txt``: a header, then ``<name>.jpg,<caption>`` (Flickr30k).

    Raises:
        DataError: The file is missing, of another form, or a line has no image or no caption field.
    """
    path = Path(file)
    try:
        text = path.read_text('utf-8')
        if path.suffix == '.txt':
            yield from _flickr(text, path)
            return
        rows = (
            # Not splitlines, here and below: it also ends lines at signs that occur within captions (U+2028).
            [json.loads(line) for line in text.split('\n') if line.strip()]
            if path.suffix == '.jsonl'
            else json.loads(text)
        )
    except (OSError, ValueError) as error:
        raise DataError(f'{path}: cannot be read as image–caption pairs ({error})') from error
    if isinstance(rows, dict):
        rows = list(_coco(rows, path))
    for number, row in enumerate(rows):
        image = row.get('image', row.get('video')) if isinstance(row, dict) else None
        if not isinstance(image, str):
            raise DataError(
                f"{path}, entry {number}: a caption without image: needs 'image' (or 'video'), the path of a file"
            )
        if 'caption' not in row:
            raise DataError(f"{path}, entry {number}: image {image!r} without text: needs 'caption'")
        for caption in texts_of(row['caption'], f'{path}, entry {number}'):
            # Without an id the path groups captions: files list a picture once per caption.
            yield Pair(image, caption, image_id_of(row, image), row)


def texts_of(field: Any, where: str) -> list[str]:
    """The captions in a field of a row: a text, a list of texts, or nothing, which is an empty caption.

    Raises:
        DataError: It holds something else, whose Python notation would be learned as a caption.
    """
    texts = [text or '' for text in (field if isinstance(field, list) else [field])]
    for text in texts:
        if not isinstance(text, (str, int, float)):
            raise DataError(f'{where}: its caption is {text!r:.60}: give a text, or a list of texts')
    # An empty list is a picture without text, which data sets tell or record as such.
    return [str(text) for text in texts] or ['']


def image_id_of(row: dict[str, Any], otherwise: str) -> str:
    """What tells the image of a row: its ``image_id``, unless it has none or an empty one."""
    found = row.get('image_id')
    return otherwise if found in (None, '') else str(found)


def _flickr(text: str, path: Path) -> Iterator[Pair]:
    for number, line in enumerate(text.split('\n')[1:], start=2):  # the first names the columns
        if not line.strip():
            continue
        name, found, caption = line.partition('.jpg,')
        if not found:
            raise DataError(f"{path}, line {number}: {line[:60]!r} is not '<name>.jpg,<caption>'")
        yield Pair(f'{name}.jpg', caption, name, {})


def _coco(content: dict[str, Any], path: Path) -> Iterator[dict[str, Any]]:
    try:
        images = {image['id']: image for image in content['images']}
        for annotation in content['annotations']:
            image = images[annotation['image_id']]
            # Both have an id; the annotation's wins, and image_id still names the picture.
            # Flickr30k's file of the published captioning says 'image' where COCO says 'file_name'.
            yield {**image, **annotation, 'image': image.get('file_name') or image['image']}
        # Said rather than refused: published splits list images whose captions are kept back.
        bare = len(images) - len({annotation['image_id'] for annotation in content['annotations']})
        if bare:
            console.print(f'{path}: {bare} of {len(images)} images have no caption and are left out')
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not COCO captions ({type(error).__name__} {error}): needs 'images' with 'id' and 'file_name', "
            "and 'annotations' with 'image_id' and 'caption'"
        ) from error


def numbered(ids: Sequence[str]) -> np.ndarray:
    """Numbers ``[n]`` of texts, the same for equal ones: what processes can compare."""
    return np.unique(np.array(ids), return_inverse=True)[1].astype(np.int64)
