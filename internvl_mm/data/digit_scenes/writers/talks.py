"""What can be talked about: a scene, two scenes, a video or plain numbers, with the files that show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from internvl_mm.data.digit_scenes.dialogue import (
    LONG_KINDS,
    PAIR_KINDS,
    SHORT_KINDS,
    TEXT_KINDS,
    VIDEO_KINDS,
    Question,
    ask_all,
)
from internvl_mm.data.digit_scenes.scene import Scene, sample_rng
from internvl_mm.data.digit_scenes.settings import DigitSceneSettings
from internvl_mm.data.digit_scenes.writers.files import save_image, scene_path

# Kinds of question per medium; every medium has its own files.
MEDIA = {
    'single': tuple(SHORT_KINDS | LONG_KINDS),
    'pair': tuple(PAIR_KINDS),
    'video': tuple(VIDEO_KINDS),
    'text': tuple(TEXT_KINDS),
}
PURPOSES = ('chat', 'questions')


@dataclass(frozen=True, eq=False)
class Talk:
    """A subject with the fields and the placeholder that stand for it in a sample.

    Args:
        medium: One of ``MEDIA``.
        number: Number of the sample among those of its medium.
        subject: Scene, pair of scenes, video, or list of numbers.
        tag: Text before the first question: one ``<image>`` per picture, or ``<video>``.
        files: ``image`` or ``video``, relative to the root of the data set.
        sizes: ``width`` and ``height``, or their lists.
    """

    medium: str
    number: int
    subject: Any
    tag: str = ''
    files: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)

    def rng(self, seed: int, split: str, purpose: str) -> np.random.Generator:
        """Return the generator that decides what is asked, the same for every language."""
        # A slot for each medium and purpose: no two talks share a generator.
        slot = list(MEDIA).index(self.medium) * len(PURPOSES) + PURPOSES.index(purpose)
        return sample_rng(seed, split, 'dialogue', self.number * len(MEDIA) * len(PURPOSES) + slot)

    def questions(self, rng: np.random.Generator, language: str) -> list[Question]:
        """Ask one question of every kind that the subject allows."""
        return ask_all(MEDIA[self.medium], self.subject, rng, language)


def single_talk(split: str, index: int, scene: Scene) -> Talk:
    """Return the talk about scene number ``index``."""
    files = {'image': scene_path(split, index)}
    return Talk('single', index, scene, '<image>\n', files, {'width': scene.width, 'height': scene.height})


def pair_talk(split: str, index: int, pair: tuple[Scene, Scene]) -> Talk:
    """Return the talk about scenes ``index`` and ``index + 1``."""
    files = {'image': [scene_path(split, index), scene_path(split, index + 1)]}
    sizes = {'width_list': [scene.width for scene in pair], 'height_list': [scene.height for scene in pair]}
    # Pairs do not overlap (0 and 1, 2 and 3): half the index numbers them without gaps.
    return Talk('pair', index // 2, pair, 'Image-1: <image>\nImage-2: <image>\n', files, sizes)


def video_talks(root: Path, split: str, settings: DigitSceneSettings) -> Iterator[Talk]:
    """Write each video as ``video/<split>/<number>/frame_<n>.jpg`` and yield the talk about it."""
    for number, video in enumerate(settings.videos(split)):
        folder = f'video/{split}/{number:06d}/'  # the final slash marks a folder of frames
        for index, frame in enumerate(video.frames):
            save_image(frame.image, root / folder / f'frame_{index}.jpg')
        yield Talk('video', number, video, '<video>\n', {'video': folder})


def text_talks(split: str, settings: DigitSceneSettings) -> Iterator[Talk]:
    """Yield talks about three to five numbers, without any picture."""
    for number in range(settings.texts(split)):
        rng = sample_rng(settings.seed, split, 'text', number)
        yield Talk('text', number, rng.integers(10, size=rng.integers(3, 6)).tolist())
