"""Which frames are taken."""

from __future__ import annotations

import random

import numpy as np
import pytest

from internvl_mm.data.video import Video
from internvl_mm.preprocess.video import (
    FRAME_PREFIXES,
    IntervalFrames,
    RandomFrames,
    SegmentFrames,
    frame_prompt,
    segment_indices,
)
from internvl_mm.utils.errors import ConfigError, DataError


class Fake(Video):
    def read(self, positions):
        return []


def fake(num_frames: int, fps: float, first: int = 0) -> Video:
    video = Fake('v.mp4', num_frames, fps)
    video.first = first
    return video


def published(bound, fps: float, max_frame: int, first_idx: int, num_segments: int) -> list[int]:
    """The rule as the model cards write it, in other words."""
    start, end = bound if bound else (-100000, 100000)
    start_idx = max(first_idx, round(start * fps))
    end_idx = min(round(end * fps), max_frame)
    seg_size = float(end_idx - start_idx) / num_segments
    return np.array(
        [int(start_idx + (seg_size / 2) + np.round(seg_size * idx)) for idx in range(num_segments)]
    ).tolist()


@pytest.mark.parametrize('bound', [None, (0, 3), (1.25, 7.7), (1, 100)])
@pytest.mark.parametrize('fps', [3.0, 23.976, 29.97])
@pytest.mark.parametrize('count', [1, 8, 16])
def test_segments_are_the_published_ones(bound, fps: float, count: int) -> None:
    for length in (60, 301):
        assert segment_indices(fake(length, fps), count, bound) == published(bound, fps, length - 1, 0, count)
        # folders count from 1 and name their last frame after their length
        ours = segment_indices(fake(length, fps, first=1), count, bound)
        assert [index + 1 for index in ours] == published(bound, fps, length, 1, count)


def test_pinned_indices() -> None:
    assert SegmentFrames(8)(fake(100, 25.0)) == [6, 18, 31, 43, 56, 68, 80, 93]
    assert SegmentFrames(4)(fake(10, 5.0), (0.5, 1.5)) == [2, 4, 5, 6]
    assert SegmentFrames(8)(fake(1, 5.0)) == [0] * 8


def test_published_intervals_of_retrieval() -> None:
    assert IntervalFrames(4)(fake(100, 25.0)) == [12, 37, 62, 87]
    assert IntervalFrames(1)(fake(9, 25.0)) == SegmentFrames(1)(fake(9, 25.0)) == [4]
    with pytest.raises(DataError, match='finds no 8 frames in 9 .intervals of 2.; use SegmentFrames'):
        IntervalFrames(8)(fake(9, 25.0))
    with pytest.raises(
        ConfigError, match='IntervalFrames takes whole videos.* 1 to 2.5 s .*use SegmentFrames'
    ):
        IntervalFrames(8)(fake(80, 25.0), (1.0, 2.5))


def test_random_frames_cover_every_frame_and_follow_the_seed() -> None:
    choose = RandomFrames(2, 5)
    seen, counts = set(), set()
    for _ in range(300):
        indices = choose(fake(12, 5.0))
        assert indices == sorted(set(indices))
        seen |= set(indices)
        counts.add(len(indices))
    assert (seen, counts) == (set(range(12)), {2, 3, 4, 5})
    assert RandomFrames(8, 32)(fake(3, 5.0)) == [0, 1, 2]
    assert set(RandomFrames(9, 9)(fake(100, 5.0), (2, 4))) <= set(range(10, 21))
    random.seed(1)
    first = choose(fake(12, 5.0))
    random.seed(1)
    assert choose(fake(12, 5.0)) == first


def test_prefixes_are_data() -> None:
    assert frame_prompt(2) == 'Frame1: <image>\nFrame2: <image>'
    assert frame_prompt(2, FRAME_PREFIXES['training']) == 'Frame-1: <image>\nFrame-2: <image>'


def test_bounds_outside_and_bad_settings_are_told() -> None:
    with pytest.raises(DataError, match=r'the bound 30 to 40 s lies outside its 4 s'):
        segment_indices(fake(100, 25.0), 8, (30, 40))
    with pytest.raises(DataError, match=r'the bound 3 to 2 s ends before it starts'):
        segment_indices(fake(100, 25.0), 8, (3, 2))
    with pytest.raises(DataError, match=r'the clip from 30 to 40 s lies outside'):
        RandomFrames()(fake(100, 25.0), (30, 40))
    with pytest.raises(ConfigError, match='min_frames=9 is more than max_frames=8'):
        RandomFrames(9, 8)
    with pytest.raises(ConfigError, match='num_segments=0'):
        SegmentFrames(0)
