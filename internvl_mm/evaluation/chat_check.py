"""What is wrong with chat data, sample by sample, before a training meets it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from internvl_mm.data.chat_records import ROLES, ImageCountError, check_text, parse_record, role_and_text
from internvl_mm.data.datasets.chat import ChatDataset
from internvl_mm.data.datasets.meta_mixture import read_meta
from internvl_mm.data.datasets.preferences import both_conversations
from internvl_mm.data.decode import ImageDecoder
from internvl_mm.data.seeding import seeded
from internvl_mm.data.video import open_video
from internvl_mm.preprocess import ChatEncoder, DynamicTiling, RandomFrames
from internvl_mm.preprocess.chat_text import ADDED_TOKENS, MARKUP, OverlongError
from internvl_mm.structures import ChatRecord
from internvl_mm.utils.console import track
from internvl_mm.utils.errors import DataError

# What can be found, in the order of reports; True for what keeps a sample from being used.
FINDINGS = {
    'format': True,
    'image count': True,
    'missing file': True,
    'broken file': True,
    'empty answer': True,
    'too long': True,
    'encoding': True,
    'box': False,
    'special token': False,
    'size': False,
    'first answer dropped': False,
}
BOX_LIMIT = 1000  # boxes are whole thousandths of the original picture's sides
_BOX = re.compile(r'<box>(.*?)</box>', re.DOTALL)
# Without a tokenizer: what structures prompts in any published template.
_SPECIAL = re.compile(r'<\|[^|<>\s]+\|>|</?s>|' + '|'.join(sorted(set(ADDED_TOKENS) - set(MARKUP))))


@dataclass
class SampleReport:
    """What is known about one sample.

    Attributes:
        dataset: Name in the meta file.
        index: Position in its annotation.
        path: File and line.
        tokens: Length, ``None`` without a tokenizer or where it cannot be encoded.
        labels: Tokens to learn.
        tiles: Tiles of its pictures.
        findings: Kind and text of everything that is odd.
    """

    dataset: str
    index: int
    path: str
    tokens: int | None = None
    labels: int | None = None
    tiles: int | None = None
    findings: list[tuple[str, str]] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether a training can use it."""
        return not any(FINDINGS[kind] for kind, _ in self.findings)

    def add(self, kind: str, text: object) -> None:
        """Note a finding, once: both answers of a preference share the question."""
        if (kind, str(text)) not in self.findings:
            self.findings.append((kind, str(text)))


class ChatChecker(Dataset):
    """Index to the :class:`SampleReport` of a sample of a meta file; reads everything that the sample names.

    Args:
        meta: The meta file.
        encoder: Encodes samples; without one, tokens and labels stay unknown and 12 tiles are assumed.
        read_files: Decode pictures and videos; otherwise only see that they exist.

    Raises:
        DataError: The meta file or an annotation cannot be read.
    """

    def __init__(self, meta: str | Path, encoder: ChatEncoder | None = None, *, read_files: bool = True):
        counter: Any = encoder or _TilesOnly()
        self.sets = [
            ChatDataset(
                entry.annotation,
                counter,
                root=entry.root,
                max_tiles=entry.max_dynamic_patch,
                name=entry.name,
            )
            for entry in read_meta(meta)
        ]
        self.has_tokens, self.read_files = encoder is not None, read_files
        self._ends = np.cumsum([len(dataset) for dataset in self.sets])
        self._special = encoder.text.forbidden if encoder is not None else _SPECIAL

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> SampleReport:
        # The first data set that ends behind the index.
        number = int(np.searchsorted(self._ends, index, side='right'))
        dataset = self.sets[number]
        row = index - int(self._ends[number]) + len(dataset)  # counted within that data set
        report = SampleReport(dataset.name, row, dataset.path(row))
        try:
            line = dataset.source[row]
            preference = isinstance(line, dict) and not {'chosen', 'rejected'}.isdisjoint(line)
            talks = both_conversations(line) if preference else [line]
            for talk in talks:
                # Before parsing, which stops at the first mistake: the report lists all that can be seen.
                self._check_text(talk, report)
            records = [parse_record(talk, dataset.root) for talk in talks]
        except DataError as error:
            report.add('image count' if isinstance(error, ImageCountError) else 'format', error)
            return report
        for record in records:
            if silent := [number for number, (_, answer) in enumerate(record.turns, 1) if not answer.strip()]:
                report.add('empty answer', f'answer {silent[0]} of {len(record.turns)} has no text to learn')
        # Tiles of a picture that cannot be read are unknown, so its tokens are too.
        # Both answers of a preference are about the same files.
        if self._check_files(records[0], dataset, report):
            self._check_tokens(records, dataset, report)
        return report

    def _check_text(self, line: Any, report: SampleReport) -> None:
        """Look at messages that may not form a conversation."""
        messages = line.get('conversations') if isinstance(line, dict) else None
        messages = messages if isinstance(messages, list) else ()
        said = [role_and_text(message) for message in messages if isinstance(message, dict)]
        for number, (_, text) in enumerate(said, 1):
            if not isinstance(text, str):
                continue
            check_text(text, f'message {number}')  # findings quote it, and are written
            if found := self._special.search(text):
                report.add('special token', f'message {number} writes {found[0]}, which stays text')
            for problem in check_boxes(text):
                report.add('box', f'message {number}: {problem}')
        # As text: what a role should not be, a list, cannot be looked up.
        roles = [ROLES.get(str(role)) for role, _ in said]
        if roles[:1] == ['assistant'] or roles[:2] == ['system', 'assistant']:
            report.add('first answer dropped', 'the conversation begins with an answer, which is left out')

    def _check_files(self, record: ChatRecord, dataset: ChatDataset, report: SampleReport) -> bool:
        """Look at pictures and videos; whether all can be used."""
        decoder: ImageDecoder = dataset.encoder.decoder
        sizes = []
        for image in [*record.images, *([record.video] if record.video else ())]:
            # Bytes come out of a table or shard, which has been read.
            if not isinstance(image, bytes) and not Path(image).exists():
                report.add('missing file', f'{image} does not exist')
                continue
            try:
                if image == record.video:
                    video = open_video(image, decoder=decoder)
                    if self.read_files:
                        # Frames are drawn at random: with a fixed draw, a second check finds the same.
                        with seeded(0, report.index):
                            video.read(dataset.encoder.frames(video, record.clip))
                else:
                    sizes.append(decoder(image).size if self.read_files else decoder.size(image))
            except DataError as error:
                report.add('broken file', error)
        # The number of tiles is planned by the sizes of the record, and cut by those of the file.
        if record.sizes and len(sizes) == len(record.sizes) and tuple(sizes) != record.sizes:
            report.add('size', f'width and height say {list(record.sizes)}, the files are {sizes}')
        return report.usable

    def _check_tokens(self, records: list[ChatRecord], dataset: ChatDataset, report: SampleReport) -> None:
        """Encode the text with the number of tiles that the pictures will have; of two answers the longer counts."""
        try:
            # Without decoding pictures again: their sizes decide the number of tiles.
            counts = [dataset.encoder.count(record) for record in records]
            # Tokens are None where there is no tokenizer.
            report.tokens, report.tiles, report.labels = max(counts, key=lambda count: count[0] or 0)
        except DataError as error:
            report.add('too long' if isinstance(error, OverlongError) else 'encoding', error)


class _TilesOnly:
    """Stands in for an encoder where there is no tokenizer: counts tiles as the published default does."""

    def __init__(self, tiling: DynamicTiling | None = None):
        self.tiling, self.frames, self.decoder = tiling or DynamicTiling(), RandomFrames(), ImageDecoder()

    def variant(self, *, max_tiles: int | None, augment: bool) -> _TilesOnly:
        return _TilesOnly(DynamicTiling(max_tiles) if max_tiles else self.tiling)

    def count(self, record: ChatRecord) -> tuple[None, int, None]:
        if record.video:
            return None, self.frames.max_frames, None
        sizes = record.sizes or [self.decoder.size(image) for image in record.images]
        return None, sum(self.tiling.count(*size, num_images=len(sizes)) for size in sizes), None


def check_boxes(text: str) -> Iterator[str]:
    """Yield what is wrong with the boxes of a text: ``<box>[[x1, y1, x2, y2], …]</box>`` in whole thousandths."""
    for tag in ('ref', 'box', 'quad'):
        if text.count(f'<{tag}>') != text.count(f'</{tag}>'):
            yield f'{text.count(f"<{tag}>")} <{tag}> for {text.count(f"</{tag}>")} </{tag}>'
    for content in _BOX.findall(text):
        boxes: Any = None  # no JSON: told as no list below
        with suppress(ValueError):
            boxes = json.loads(content)
        if not isinstance(boxes, list) or not all(_is_box(box) for box in boxes) or not boxes:
            yield f'{content!r:.60} is no list of boxes [x1, y1, x2, y2]'
            continue
        for box in boxes:
            if not all(isinstance(side, int) and 0 <= side <= BOX_LIMIT for side in box):
                yield f'{box} is not within whole numbers from 0 to {BOX_LIMIT}'
            elif box[0] >= box[2] or box[1] >= box[3]:
                yield f'{box} has no area: x1 < x2 and y1 < y2 are needed'


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(isinstance(side, (int, float)) for side in box)


def check_all(checker: ChatChecker, file: str | Path, *, workers: int = 0) -> list[SampleReport]:
    """Check every sample, in parallel, and write one JSON line for each.

    Args:
        checker: What to check.
        file: Where the lines go, in the order of the meta file.
        workers: Processes; 0 for this one alone.

    Returns:
        A report for each sample, in the order of the meta file.

    Raises:
        DataError: The file cannot be written.
    """
    # Reports are no tensors: the default collation would refuse them.
    loader = DataLoader(checker, batch_size=16, num_workers=workers, collate_fn=list)
    reports = []
    try:
        with open(file, 'w', encoding='utf-8') as lines:
            for report in track(
                (report for batch in loader for report in batch), 'checking', total=len(checker)
            ):
                lines.write(json.dumps(asdict(report), ensure_ascii=False) + '\n')
                reports.append(report)
    except OSError as error:
        raise DataError(f'{file}: cannot be written ({error.strerror})') from error
    return reports


def count_findings(reports: Sequence[SampleReport]) -> dict[str, int]:
    """Samples with each kind of finding, those that occur."""
    counts = {
        kind: sum(any(kind == k for k, _ in report.findings) for report in reports) for kind in FINDINGS
    }
    return {kind: count for kind, count in counts.items() if count}
