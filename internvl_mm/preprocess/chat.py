"""One sample of a conversation from its record to tiles and tokens: the same part for training, evaluation, serving."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer

from internvl_mm.data.chat_records import IMAGE, VIDEO
from internvl_mm.data.decode import ImageDecoder
from internvl_mm.data.video import open_video
from internvl_mm.preprocess.chat_text import ChatTextEncoder, add_image_tokens
from internvl_mm.preprocess.tiling import DynamicTiling, JpegNoise, SquashTiling, Tiling
from internvl_mm.preprocess.video import FRAME_PREFIXES, UNBROKEN, FrameChoice, RandomFrames, frame_prompt
from internvl_mm.registry import TRANSFORMS
from internvl_mm.structures.chat import IGNORE, ChatRecord, ChatSample
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import ConfigError, did_you_mean


@TRANSFORMS.register_module()
class ChatEncoder:
    """:class:`ChatRecord` to :class:`ChatSample`: read, cut to tiles, tokenise, label.

    Args:
        tokenizer: A transformers tokenizer, or the folder of one.
        template: Name of the conversation template.
        tokens_per_tile: Tokens of one tile in the prompt: (size / patch)² · downsample², 256 for all releases.
        tiling: Cuts images; the published dynamic tiling of at most 12 tiles by default.
        frames: Chooses the frames of videos, each of which is one tile.
        frame_prefix: Text of one frame: ``'training'``, ``'inference'``, ``'preference'`` (as ``'inference'``, with the
            question on the line of the last frame), or a text with ``{}`` for its number.
        decoder: Reads images.
        add_tokens: Add the image tokens to a tokenizer without them; the model's embeddings have to grow with it.
        text: Options of :class:`ChatTextEncoder`, such as ``max_length`` and ``overlong``.

    Raises:
        ConfigError: A part does not fit the others; see :class:`ChatTextEncoder`.
    """

    @classmethod
    def check_config(cls, **options: Any) -> list[str]:
        """What is wrong with the settings that are passed on."""
        taken = {*inspect.signature(cls).parameters, *inspect.signature(ChatTextEncoder).parameters}
        problems = [
            f'{name} is no setting of it.{did_you_mean(name, taken)}' for name in options if name not in taken
        ]
        tokenizer = options.get('tokenizer')
        # Any object may be a tokenizer, so that the signature says nothing about a config without its type.
        if isinstance(tokenizer, dict) and 'type' not in tokenizer:
            problems.append(
                f'tokenizer has {", ".join(map(str, tokenizer)) or "nothing"}, but no type to build it by'
            )
        return problems

    def __init__(
        self,
        tokenizer: Any,
        template: str,
        *,
        tokens_per_tile: int = 256,
        tiling: Tiling | dict | None = None,
        frames: FrameChoice | dict | None = None,
        frame_prefix: str = 'training',
        decoder: ImageDecoder | dict | None = None,
        add_tokens: bool = False,
        **text: Any,
    ):
        check_counts(tokens_per_tile=tokens_per_tile)
        self.tokenizer = load_tokenizer(tokenizer)
        if add_tokens:
            add_image_tokens(self.tokenizer)
        self.text = ChatTextEncoder(self.tokenizer, template, **text)
        self.tokens_per_tile = tokens_per_tile
        self.tiling: Tiling = _build(tiling) or DynamicTiling()
        # Frames are one tile each, whatever images get: 32 frames of 12 tiles would be 98,000 tokens.
        self.frame_tiling = SquashTiling(self.tiling.size)
        self.frames: FrameChoice = _build(frames) or RandomFrames()
        self.frame_prefix = FRAME_PREFIXES.get(frame_prefix, frame_prefix)
        self.video_slot = (
            f'{VIDEO}\n' if frame_prefix == UNBROKEN else VIDEO
        )  # what the frames take the place of
        if self.frame_prefix.count(IMAGE) != 1:
            raise ConfigError(
                f'frame_prefix={frame_prefix!r} has to hold one {IMAGE}, or be {" or ".join(FRAME_PREFIXES)}'
            )
        self.decoder: ImageDecoder = _build(decoder) or ImageDecoder()
        # Set by variant(): a setting of each data set, not of the encoder.
        self.augment: JpegNoise | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What a model has to agree with."""
        template = self.text.template
        return dict(
            template=template.name,
            system_message=template.system_message,
            tokens_per_tile=self.tokens_per_tile,
            vocabulary=len(self.tokenizer),
        )

    def variant(self, *, max_tiles: int | None = None, augment: bool = False) -> ChatEncoder:
        """The same with what a data set of a meta file says for itself.

        Args:
            max_tiles: Most tiles of a sample (``max_dynamic_patch``).
            augment: Degrade tiles by JPEG (``data_augment``).

        Raises:
            ConfigError: The tiling has no number of tiles to choose.
        """
        # Tokenizer and text encoder are shared: only what differs between data sets is new.
        other = copy.copy(self)
        other.augment = JpegNoise() if augment else None
        if max_tiles is not None:
            if not isinstance(self.tiling, DynamicTiling):
                raise ConfigError(
                    f'max_tiles={max_tiles} (max_dynamic_patch) needs DynamicTiling, not {self.tiling!r}'
                )
            own = self.tiling
            other.tiling = DynamicTiling(
                max_tiles, min_num=own.min_num, size=own.size, thumbnail=own.thumbnail
            )
        return other

    def __call__(self, record: ChatRecord, beside: Sequence[ChatRecord] = ()) -> ChatSample:
        """Read and encode one sample; random choices come from the global generators.

        Args:
            record: The sample.
            beside: Others about the same video, whose frames it shares: with as many frames they have to fit too.

        Raises:
            DataError: A file is missing or damaged, or the text cannot be encoded.
        """
        turns, tiles = self._tiles(record, beside)
        counts = tuple(len(part) for part in tiles)  # tiles of each picture or frame
        # Context tokens of each image: its tiles times the tokens of a tile.
        encoded = self.text.encode(
            turns, [count * self.tokens_per_tile for count in counts], system=record.system
        )
        stacked = _join(tiles, self.tiling.size)  # uint8 [T, 3, S, S]
        return ChatSample(
            tiles=self.augment(stacked) if self.augment is not None else stacked,
            num_tiles=counts,
            input_ids=torch.from_numpy(encoded.input_ids),
            labels=torch.from_numpy(encoded.labels),
        )

    def prompt(self, record: ChatRecord) -> ChatSample:
        """Read and encode one sample up to its last answer, which is left to the model; nothing is labelled.

        Raises:
            DataError: See :meth:`__call__`.
        """
        turns, tiles = self._tiles(record)
        counts = tuple(len(part) for part in tiles)
        # An open turn: the template ends where the model goes on.
        asked = [*turns[:-1], (turns[-1][0], None)]
        ids = self.text.prompt(
            asked, [count * self.tokens_per_tile for count in counts], system=record.system
        )
        labels = torch.full((len(ids),), IGNORE)  # [L]
        return ChatSample(_join(tiles, self.tiling.size), counts, torch.from_numpy(ids), labels)

    def measure(self, record: ChatRecord) -> tuple[int, int]:
        """Tokens and tiles of a sample without reading its pixels; of a video the most it can have.

        Pictures without sizes in the record have their headers read.

        Raises:
            DataError: See :meth:`__call__`.
        """
        turns, counts = self._expect(record)
        # A length in the file spares tokenising; where samples are packed, a wrong one is noticed.
        tokens = record.length
        if tokens is None:
            tokens = self.text.length(
                turns, [count * self.tokens_per_tile for count in counts], system=record.system
            )
        return self.text.check_length(tokens), sum(counts)

    def count(self, record: ChatRecord) -> tuple[int, int, int]:
        """Tokens, tiles and labels, as :meth:`measure` but all of it checked, whatever length the record promises.

        Raises:
            DataError: See :meth:`__call__`.
        """
        turns, counts = self._expect(record)
        encoded = self.text.encode(
            turns, [count * self.tokens_per_tile for count in counts], system=record.system
        )
        return len(encoded.input_ids), sum(counts), encoded.num_labels

    def _expect(self, record: ChatRecord) -> tuple[Sequence[tuple[str, str]], list[int]]:
        """Turns and tiles of each image, from headers; the most frames of a video."""
        if record.video:
            most = self._frames_of([record]).max_frames
            return self._with_frames(record, most), [1] * most
        sizes = record.sizes or [self.decoder.size(image) for image in record.images]
        # As in training, where several pictures of a sample share its tiles.
        return record.turns, [self.tiling.count(*size, num_images=len(sizes)) for size in sizes]

    def _tiles(
        self, record: ChatRecord, beside: Sequence[ChatRecord] = ()
    ) -> tuple[Sequence[tuple[str, str]], list[Tensor]]:
        """Turns with the frames of a video written out, and the tiles of each image."""
        if not record.video:
            pictures = [self._read(image) for image in record.images]
            return record.turns, [self.tiling(picture, num_images=len(pictures)) for picture in pictures]
        video = open_video(record.video, decoder=self.decoder)
        pictures = video.read(self._frames_of([record, *beside])(video, record.clip))
        return self._with_frames(record, len(pictures)), [self.frame_tiling(picture) for picture in pictures]

    def _frames_of(self, records: Sequence[ChatRecord]) -> FrameChoice:
        """The choice of frames, held to as many as fit ``max_length`` together with the text."""
        if self.text.published:
            return self.frames  # which draws without a look at the length, and rejects what is too long
        # The most frames of the default choice take more than the default length: 32 x 258 of 8,192 tokens.
        return self.frames.within(
            lambda count: all(
                self.text.full_length(
                    self._with_frames(record, count), [self.tokens_per_tile] * count, system=record.system
                )
                <= self.text.max_length
                for record in records
            )
        )

    def _with_frames(self, record: ChatRecord, count: int) -> list[tuple[str, str]]:
        prompt = frame_prompt(count, self.frame_prefix)
        return [
            (question.replace(self.video_slot, prompt).replace(VIDEO, prompt), answer)
            for question, answer in record.turns
        ]

    def _read(self, image: str | bytes | Image.Image) -> Image.Image:
        # Drawn pictures need no decoder.
        return image if isinstance(image, Image.Image) else self.decoder(image)


def load_tokenizer(folder: Any) -> Any:
    """A tokenizer from its folder or from ``dict(type=function, ...)``; one that exists is returned as it is."""
    if not isinstance(folder, str):
        return _build(folder)
    try:
        file = Path(folder) / 'tokenizer.json'
        if file.is_file():
            # The tokenizers library has no error of its own for a file cut short.
            json.loads(file.read_text('utf-8'))
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f'tokenizer={folder!r} cannot be loaded ({error}); give a folder with its files'
        ) from error


def _build(part: Any) -> Any:
    return TRANSFORMS.build(part) if isinstance(part, dict) else part


def _join(tiles: list[Tensor], size: int) -> Tensor:
    if len(tiles) == 1:
        return tiles[0]  # no copy
    # Text alone has no tiles, but their shape, so that it can be joined with other samples.
    return torch.cat(tiles) if tiles else torch.empty((0, 3, size, size), dtype=torch.uint8)
