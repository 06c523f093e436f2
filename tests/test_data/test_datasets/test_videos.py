"""Videos by class and by caption, from tiny made files."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import KineticsDataset, VideoCaptionDataset
from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.preprocess.video import IntervalFrames, SegmentFrames
from internvl_mm.structures import BadSample
from internvl_mm.utils.errors import DataError

HEADER = 'label,youtube_id,time_start,time_end,split'


def write_video(path: Path, count: int) -> None:
    """Frame k has the grey value 20 k."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 16, 'yuv420p'
        for number in range(count):
            picture = Image.new('RGB', (32, 16), (number * 20,) * 3)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def greys(frames: Tensor) -> list[int]:
    return [round(float(np.asarray(frame).mean()) / 20) for frame in frames]


def kinetics(folder: Path, *, nested: bool = False, frames: int = 3, **options) -> KineticsDataset:
    rows = ['yoga,b,3,13,val', 'abseiling,a,0,10,val', 'yoga,gone,5,15,val']
    for label, name in (('yoga', 'b_000003_000013'), ('abseiling', 'a_000000_000010')):
        write_video((folder / label if nested else folder) / f'{name}.mp4', 9)
    (folder / 'val.csv').write_text('\n'.join([HEADER, *rows]))
    return KineticsDataset(
        str(folder),
        str(folder / 'val.csv'),
        frames=dict(type=SegmentFrames, num_segments=frames),
        transform=[v2.Resize((8, 8))],
        name='kinetics',
        **options,
    )


@pytest.mark.parametrize('nested', [False, True])
def test_kinetics_gives_frames_and_the_class_of_the_sorted_actions(tmp_path: Path, nested: bool) -> None:
    dataset = kinetics(tmp_path, nested=nested, on_error='skip', num_classes=2)
    assert dataset.classes == ('abseiling', 'yoga') and dataset.targets.tolist() == [1, 0, 1]
    item = dataset[0]
    assert item['inputs'].shape == (3, 3, 8, 8) and greys(item['inputs']) == [1, 4, 6]
    assert int(item['data_samples'].gt_label) == 1
    # Withdrawn from the net, and so from every copy.
    assert isinstance(dataset[2], BadSample) and 'there is no such video' in dataset[2].reason
    batch = ImageDataPreprocessor()(collate_samples([dataset[0], dataset[1]]))
    assert batch['inputs'].shape == (2, 3, 3, 8, 8)


def test_one_frame_is_the_middle_one_and_counts_for_the_cache(tmp_path: Path) -> None:
    one = kinetics(tmp_path, frames=1)
    assert greys(one[0]['inputs']) == [4]
    assert one.fingerprint() != kinetics(tmp_path, frames=3).fingerprint()


def test_lists_that_do_not_fit_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='2 actions, but num_classes=400: the list of another version'):
        kinetics(tmp_path, num_classes=400)
    (tmp_path / 'test.csv').write_text('youtube_id,time_start,time_end\na,0,10\n')
    with pytest.raises(DataError, match="not a list of Kinetics .KeyError 'label'"):
        KineticsDataset(str(tmp_path), str(tmp_path / 'test.csv'), frames=SegmentFrames(1))


def test_captioned_videos_and_the_published_choice_of_frames(tmp_path: Path) -> None:
    write_video(tmp_path / 'video7.mp4', 9)
    file = tmp_path / 'test.json'
    file.write_text(json.dumps([dict(video='video7.mp4', caption='a man sings')]))
    frames = dict(
        frames=dict(type=SegmentFrames, num_segments=2),
        published_frames=dict(type=IntervalFrames, num_segments=2),
    )
    ours = VideoCaptionDataset(str(tmp_path), str(file), name='toy', **frames)
    item = ours[0]
    assert item['data_samples'].caption == 'a man sings' and greys(item['inputs']) == [2, 6]
    published = VideoCaptionDataset(str(tmp_path), str(file), name='toy', published=True, **frames)
    assert greys(published[0]['inputs']) == [2, 7]
    assert published.fingerprint() != ours.fingerprint()
