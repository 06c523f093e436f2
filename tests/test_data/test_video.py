"""Frames of video files, folders and GIFs."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from internvl_mm.data.decode import ImageDecoder
from internvl_mm.data.video import open_video
from internvl_mm.utils.errors import DataError


def shade(number: int) -> Image.Image:
    return Image.new('RGB', (32, 16), (number * 20, number * 20, number * 20))


def write_video(path: Path, count: int = 10, fps: int = 5) -> Path:
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', rate=fps)
        stream.width, stream.height, stream.pix_fmt = 32, 16, 'yuv420p'
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_image(shade(number))))
        container.mux(stream.encode())
    return path


def greys(frames: list[Image.Image]) -> list[int]:
    return [round(float(np.asarray(frame).mean()) / 20) for frame in frames]


@pytest.mark.parametrize('suffix', ['mp4', 'mkv', 'avi'])
def test_files_give_exact_positions_in_any_order(tmp_path: Path, suffix: str) -> None:
    video = open_video(write_video(tmp_path / f'v.{suffix}'))
    assert (video.num_frames, video.fps, video.first) == (10, 5.0, 0)
    assert greys(video.read([7, 0, 3, 3, 9])) == [7, 0, 3, 3, 9]


def test_folders_are_ordered_by_number(tmp_path: Path) -> None:
    for number in (10, 9, 1, 2):
        shade(number).save(tmp_path / f'frame_{number}.png')
    (tmp_path / 'notes.txt').write_text('not a frame')
    video = open_video(f'{tmp_path}/')
    assert (video.num_frames, video.fps, video.first) == (4, 3.0, 1)
    assert greys(video.read([0, 1, 2, 3])) == [1, 2, 9, 10]


def test_gifs(tmp_path: Path) -> None:
    frames = [shade(number) for number in (1, 5, 9)]
    frames[0].save(tmp_path / 'v.gif', save_all=True, append_images=frames[1:], duration=250)
    video = open_video(tmp_path / 'v.gif')
    assert (video.num_frames, video.fps) == (3, 4.0)
    assert greys(video.read([2, 0])) == [9, 1]


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='there is no such video'):
        open_video(tmp_path / 'absent.mp4')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataError, match='the video has no frames'):
        open_video(tmp_path / 'empty')
    (tmp_path / 'text.mp4').write_bytes(b'no video at all' * 100)
    with pytest.raises(DataError, match='not a readable video'):
        open_video(tmp_path / 'text.mp4')
    (tmp_path / 'text.gif').write_bytes(b'no gif')
    with pytest.raises(DataError, match='not a readable GIF'):
        open_video(tmp_path / 'text.gif')
    for name in ('v.mp4', 'v.gif'):
        write_video(tmp_path / name) if name == 'v.mp4' else shade(1).save(tmp_path / name)
        with pytest.raises(DataError, match='frames of 32×16 pixels, more than max_pixels=100'):
            open_video(tmp_path / name, decoder=ImageDecoder(max_pixels=100))


def test_files_without_pictures_and_truncated_ones(tmp_path: Path) -> None:
    with av.open(str(tmp_path / 'sound.mp4'), 'w') as container:
        stream = container.add_stream('aac', rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format='fltp', layout='mono')
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match='no video, only 1 other streams'):
        open_video(tmp_path / 'sound.mp4')
    whole = write_video(tmp_path / 'v.mkv', count=40).read_bytes()
    video = open_video(tmp_path / 'v.mkv')
    (tmp_path / 'v.mkv').write_bytes(whole[: len(whole) // 2])  # after its frames were counted
    with pytest.raises(DataError, match='promises 40 frames, but frame 39 is not there'):
        video.read([0, 39])


def test_no_name_reaches_another_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / 'v.mp4')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match='there is no such video'):
        open_video('concat:v.mp4|v.mp4')
