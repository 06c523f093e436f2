"""Which frames of a video a model sees, and how the prompt counts them."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable

import numpy as np

from internvl_mm.data.video import Video
from internvl_mm.registry import TRANSFORMS
from internvl_mm.utils.checks import check_counts
from internvl_mm.utils.errors import ConfigError, DataError

Bound = tuple[float, float]  # start and end in seconds
# Text of one frame. The published training code counts 'Frame-1', model cards, evaluation and MPO data 'Frame1'.
FRAME_PREFIXES = {
    'training': 'Frame-{}: <image>',
    'inference': 'Frame{}: <image>',
    'preference': 'Frame{}: <image>',
}
# After the last frame the published MPO trainer breaks no line: the question follows at once.
UNBROKEN = 'preference'


def frame_prompt(count: int, prefix: str = FRAME_PREFIXES['inference']) -> str:
    """Return the lines that stand for a video of ``count`` frames; the question follows on the next line."""
    return '\n'.join(prefix.format(number) for number in range(1, count + 1))


def segment_indices(video: Video, num_segments: int, bound: Bound | None = None) -> list[int]:
    """Return positions from 0 of one frame per segment: the middles, rounded as the published code rounds.

    Bounds are rounded by Python, multiples of the segment by NumPy (both half to even), the result is cut off.

    Args:
        video: The video.
        num_segments: Number of frames.
        bound: Only look between these seconds.

    Raises:
        DataError: The bound lies outside the video, or ends before it starts.
    """
    first, last = video.first, video.first + video.num_frames - 1
    start, end = bound or (-100_000.0, 100_000.0)  # the published way to say all of it
    low, high = max(first, round(start * video.fps)), min(round(end * video.fps), last)
    if low > high:
        raise DataError(
            f'{video.path}: the bound {start:g} to {end:g} s '
            + (
                'ends before it starts'
                if start > end
                else f'lies outside its {video.num_frames / video.fps:.3g} s'
            )
        )
    # Without + 1, as published: the last segment ends at the last frame, not behind it.
    segment = (high - low) / num_segments
    return [int(low + segment / 2 + np.round(segment * number)) - first for number in range(num_segments)]


class FrameChoice(ABC):
    """Chooses frames.

    Attributes:
        max_frames: Most frames it chooses, for plans.
    """

    max_frames: int

    @abstractmethod
    def __call__(self, video: Video, bound: Bound | None = None) -> list[int]:
        """Positions from 0.

        Args:
            video: The video.
            bound: Only look between these seconds.

        Raises:
            DataError: The bound lies outside the video.
        """

    def within(self, fits: Callable[[int], bool]) -> FrameChoice:
        """The same held to numbers of frames that fit, where it has a choice: a fixed number stays."""
        return self


@TRANSFORMS.register_module()
class SegmentFrames(FrameChoice):
    """The middle frame of equal segments: inference (8 on model cards, 16 for MVBench).

    Args:
        num_segments: Number of frames.
    """

    def __init__(self, num_segments: int = 8):
        check_counts(num_segments=num_segments)
        self.max_frames = num_segments

    def __call__(self, video: Video, bound: Bound | None = None) -> list[int]:
        """See :meth:`FrameChoice.__call__`."""
        return segment_indices(video, self.max_frames, bound)


@TRANSFORMS.register_module()
class IntervalFrames(FrameChoice):
    """The middles of intervals of a whole number of frames: the published script of MSR-VTT retrieval.

    Many lengths cannot be divided so (9 frames into 8 intervals of 2 give 5), where the script stops;
    :class:`SegmentFrames` takes any length.

    Args:
        num_segments: Number of frames.
    """

    def __init__(self, num_segments: int = 1):
        check_counts(num_segments=num_segments)
        self.max_frames = num_segments

    def __call__(self, video: Video, bound: Bound | None = None) -> list[int]:
        """See :meth:`FrameChoice.__call__`; of whole videos only, as retrieval looks at them.

        Raises:
            ConfigError: There is a bound.
            DataError: The length cannot be divided so.
        """
        if bound is not None:
            # Not a bad sample, which a data set may skip: the frames were chosen for another kind of data.
            raise ConfigError(
                f'{video.path}: IntervalFrames takes whole videos, and this sample is about {bound[0]:g} to '
                f'{bound[1]:g} s of one: use SegmentFrames or RandomFrames, which keep to such bounds'
            )
        interval = -(-video.num_frames // self.max_frames)  # rounded up
        found = [start + interval // 2 for start in range(0, video.num_frames, interval)]
        if len(found) != self.max_frames or found[-1] >= video.num_frames:
            raise DataError(
                f'{video.path}: the published rule finds no {self.max_frames} frames in {video.num_frames} (intervals '
                f'of {interval}); use SegmentFrames, or leave such videos out (on_error)'
            )
        return found


@TRANSFORMS.register_module()
class RandomFrames(FrameChoice):
    """One random frame of each of a random number of intervals: training.

    Unlike the published code it can draw the last frame of an interval too, and repeats no frame: a video with fewer
    frames gives all of them. Draws from Python's global generator, which data sets seed for each sample.

    Args:
        min_frames: Fewest intervals.
        max_frames: Most intervals.
    """

    def __init__(self, min_frames: int = 8, max_frames: int = 32):
        check_counts(min_frames=min_frames, max_frames=max_frames)
        if min_frames > max_frames:
            raise ConfigError(f'min_frames={min_frames} is more than max_frames={max_frames}')
        self.min_frames, self.max_frames = min_frames, max_frames

    def within(self, fits: Callable[[int], bool]) -> FrameChoice:
        """See :meth:`FrameChoice.within`; never fewer than ``min_frames``."""
        if fits(self.max_frames):
            return self
        # More frames are longer, so the first number that does not fit ends those that do.
        more = range(self.min_frames + 1, self.max_frames)
        return RandomFrames(
            self.min_frames, self.min_frames + bisect_left(more, True, key=lambda n: not fits(n))
        )

    def __call__(self, video: Video, bound: Bound | None = None) -> list[int]:
        """See :meth:`FrameChoice.__call__`."""
        low, high = 0, video.num_frames
        if bound is not None:
            # + 1: the frame at the end of the clip belongs to it.
            low, high = int(bound[0] * video.fps), min(int(bound[1] * video.fps) + 1, high)
            if low >= high:
                raise DataError(
                    f'{video.path}: the clip from {bound[0]:g} to {bound[1]:g} s lies outside the video'
                )
        count = min(random.randint(self.min_frames, self.max_frames), high - low)
        # At most one interval per frame, so borders cut to whole numbers never coincide.
        borders = np.linspace(low, high, count + 1).astype(int).tolist()
        return [random.randrange(start, stop) for start, stop in zip(borders, borders[1:])]
