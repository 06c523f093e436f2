"""Pictures and videos of a conversation, prepared as the model's folder says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from internvl_mm.data.decode import ImageDecoder
from internvl_mm.data.video import open_video
from internvl_mm.models.chat_generation import ChatGeneration
from internvl_mm.models.hub import load_model, local_folder
from internvl_mm.preprocess.chat import load_tokenizer
from internvl_mm.preprocess.chat_folder import tiling_of
from internvl_mm.preprocess.tiling import SquashTiling, Tiling, normalise
from internvl_mm.preprocess.video import SegmentFrames, frame_prompt
from internvl_mm.utils.errors import ConfigError

_FRAMES = 8  # of the model cards


@dataclass
class ChatInputs:
    """Reads pictures and videos into normalised tiles.

    Args:
        tiling: Cuts pictures.
        decoder: Reads them.
        frames: Frames of a video, one tile each.
    """

    tiling: Tiling
    decoder: ImageDecoder
    frames: int = _FRAMES

    def image(self, path: str | Path, *, num_images: int = 1) -> Tensor:
        """Tiles ``[T, 3, S, S]`` of a picture, one of ``num_images`` that share the budget.

        Raises:
            DataError: It cannot be read.
        """
        return normalise(self.tiling(self.decoder(path), num_images=num_images))

    def images(self, paths: Sequence[str | Path]) -> list[Tensor]:
        """Tiles of several pictures."""
        # The pictures of a question share one budget of tiles, as those of a sample in training.
        return [self.image(path, num_images=len(paths)) for path in paths]

    def video(self, path: str | Path) -> tuple[list[Tensor], str]:
        """One tile per frame, and the lines that go before the question.

        Raises:
            DataError: It cannot be read, or has no frames.
        """
        video = open_video(path, decoder=self.decoder)
        squash = SquashTiling(self.tiling.size)
        frames = video.read(SegmentFrames(self.frames)(video))
        return [normalise(squash(frame)) for frame in frames], frame_prompt(len(frames)) + '\n'

    def gather(
        self, question: str, images: Sequence[str | Path], videos: Sequence[str | Path]
    ) -> tuple[str, list[Tensor]]:
        """A question with everything it is about: its text, and tiles in the order of its ``<image>``.

        Raises:
            DataError: Something cannot be read.
        """
        pictures = self.images(images)
        frames: list[Tensor] = []
        lines = ''
        for path in videos:
            found, prompt = self.video(path)
            frames += found
            lines += prompt
        # A question that places its pictures itself comes after the lines of the frames, and so do its pictures.
        if '<image>' in question:
            return lines + question, [*frames, *pictures]
        # A frame's <image> keeps the session from placing those of the pictures.
        if videos and images:
            lines = ''.join(f'Image-{number}: <image>\n' for number in range(1, len(images) + 1)) + lines
        return lines + question, [*pictures, *frames]


def open_chat(
    folder: str, *, dtype: str | None = None, device: str | None = None
) -> tuple[ChatGeneration, Any, ChatInputs]:
    """Model, tokenizer and inputs of a published folder.

    Args:
        folder: A folder, or the name of a repository on the Hugging Face hub.
        dtype: Of the weights; left out, as stored.
        device: Where to; left out, the CPU.

    Raises:
        UserError: It cannot be loaded, or is no chat model.
    """
    local = local_folder(folder)
    model = load_model(local, dtype=dtype, device=device)
    if not isinstance(model, ChatGeneration):
        raise ConfigError(
            f'{folder} is no chat model but {type(model).__name__}: give a folder of InternVL-Chat'
        )
    tokenizer = load_tokenizer(str(local))
    # Mistakes of template and tokenizer are told before the first question.
    model.text_encoder(tokenizer, model.system_message)
    return model, tokenizer, ChatInputs(tiling_of(local, model.config.image_size), ImageDecoder())
