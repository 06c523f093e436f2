"""Write a whole DigitScenes data set: every task's format from one seed."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from internvl_mm.data.digit_scenes.digits import SPLITS, load_source_digits
from internvl_mm.data.digit_scenes.scene import MIN_VISIBLE
from internvl_mm.data.digit_scenes.settings import DigitSceneSettings
from internvl_mm.data.digit_scenes.writers.captions import Captions
from internvl_mm.data.digit_scenes.writers.coco import CocoInstances
from internvl_mm.data.digit_scenes.writers.conversations import Conversations
from internvl_mm.data.digit_scenes.writers.files import write_json
from internvl_mm.data.digit_scenes.writers.image_folder import SceneImages, write_image_folder
from internvl_mm.data.digit_scenes.writers.questions import Questions
from internvl_mm.data.digit_scenes.writers.semantic import SemanticMasks
from internvl_mm.data.digit_scenes.writers.talks import pair_talk, single_talk, text_talks, video_talks
from internvl_mm.utils.console import console, track
from internvl_mm.utils.errors import DataError

VERSION = 1  # raise it when equal settings would no longer give equal data
INDEX = 'dataset.json'
LAYOUT = {
    'classification/<split>/<digit>/*.png': 'image folder, one large digit per image',
    'scenes/<split>/*.jpg': 'pictures of detection, captions, chat and vqa; the file number is the image id',
    'segmentation/{images,annotations}/{training,validation}': (
        'ADE20K folders; mask 0 = background, d + 1 = digit d: with reduce_zero_label 10 classes, background ignored'
    ),
    'detection/annotations/instances_<split>.json': 'COCO instances, category d + 1 = digit d, of scenes/<split>',
    'captions/': 'COCO captions, Karpathy lists, Flickr lines, pairs JSONL; 5 captions per scene and language',
    'chat/meta_<split>.json': 'InternVL meta file; its paths are relative to chat/, paths in the JSONL to this folder',
    'chat/preference_<split>_<language>.jsonl': 'question, chosen, rejected',
    'vqa/test_*.jsonl': 'evaluation: single, pair, video, text, choice, grounding; paths relative to this folder',
    'video/<split>/<number>/frame_<n>.jpg': 'videos as folders of 4–8 frames',
}


def write_digit_scenes(out: str | Path, *, settings: DigitSceneSettings | None = None) -> Path:
    """Write the data set to a folder, or return at once when the folder already holds exactly it.

    The folder appears complete or not at all: everything is written next to it and renamed at the end.

    Args:
        out: Folder to create.
        settings: What to write; the defaults take about 50 MB.

    Returns:
        The folder.

    Raises:
        DataError: The folder holds something else, or cannot be written.
    """
    out, settings = Path(out), settings or DigitSceneSettings()
    if _holds(out, settings):
        console.print(
            f'DigitScenes: {out} already holds this data set (seed {settings.seed}); nothing to do.'
        )
        return out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # In the same parent, so that the final rename stays on one disk and is atomic.
        with tempfile.TemporaryDirectory(prefix=f'.{out.name}-', dir=out.parent) as workshop:
            # A folder inside: it is renamed away, and the workshop itself stays to be cleaned up.
            folder = Path(workshop) / 'data'
            counts = {split: _write_split(folder, split, settings) for split in SPLITS}
            # Last: a folder that has it is complete.
            write_json(folder / INDEX, _index(settings, counts), indent=2)
            folder.replace(out)  # whole or not at all
    except OSError as error:
        raise DataError(
            f'cannot write the data set to out={str(out)!r}: {error.strerror or error} ({error.filename or out}). '
            f'Choose a folder on a disk that you can write to, with about 100 MB free for the default sizes.'
        ) from error
    scenes = ' + '.join(f'{settings.size(split):,} {split}' for split in SPLITS)
    console.print(f'DigitScenes: wrote {scenes} scenes with seed {settings.seed} to {out}.', soft_wrap=True)
    return out


def read_index(folder: str | Path) -> dict[str, Any]:
    """Return what ``dataset.json`` says about a written data set.

    Raises:
        DataError: The folder holds no complete DigitScenes data set.
    """
    path = Path(folder) / INDEX
    try:
        index = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise DataError(
            f'{str(folder)!r} holds no complete DigitScenes data set: {INDEX} cannot be read ({error}). '
            f'Write one with: python tools/dataset_converters/digit_scenes.py --out {folder}'
        ) from error
    if not isinstance(index, dict) or index.get('name') != 'DigitScenes':
        raise DataError(f'{str(path)!r} describes another data set than DigitScenes; choose another folder.')
    return index


def _holds(out: Path, settings: DigitSceneSettings) -> bool:
    """Whether ``out`` already is this data set; an error when it is anything else than absent or empty."""
    if out.is_file():
        raise DataError(f'out={str(out)!r} is a file; --out names a folder to create.')
    if not out.is_dir() or not any(out.iterdir()):
        return False
    remedy = f'Choose another folder, or delete {out} first.'
    if not (out / INDEX).is_file():
        raise DataError(
            f'out={str(out)!r} is not empty and holds no {INDEX}: it is not a DigitScenes data set. {remedy}'
        )
    index = read_index(out)
    # Equal settings give equal data, so that comparing settings is enough.
    wanted = {'version': VERSION, **asdict(settings)}
    found = {'version': index.get('version'), **index.get('settings', {})}
    differing = [
        f'{key} {found.get(key)} there, {value} asked for'
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    if differing:
        raise DataError(
            f'out={str(out)!r} holds DigitScenes with other settings ({"; ".join(differing)}). {remedy}'
        )
    return True


def _write_split(root: Path, split: str, settings: DigitSceneSettings) -> dict[str, int]:
    """Write one split in every format and return its counts."""
    size = settings.size(split)
    counts = Counter(write_image_folder(root, split, track(settings.digits(split), f'{split} digits', size)))
    listeners: list[Conversations | Questions] = [Conversations(root, split, settings.seed)]
    # What has one right answer is for evaluation.
    if split == 'test':
        listeners.append(Questions(root, split, settings.seed))
    # Writers see scenes; listeners hear talks, which may be about a pair, a video or numbers, too.
    writers = [kind(root, split) for kind in (SceneImages, SemanticMasks, CocoInstances, Captions)]
    previous = None
    for index, scene in enumerate(track(settings.scenes(split), f'{split} scenes', size)):
        for writer in writers:
            writer.add(index, scene)
        talks = [single_talk(split, index, scene)]
        # Every scene is in one pair: 0 with 1, 2 with 3, and so on.
        if index % 2 and previous is not None:
            talks.append(pair_talk(split, index - 1, (previous, scene)))
        previous = scene
        for talk in talks:
            for listener in listeners:
                listener.add(talk)
    for talk in [*video_talks(root, split, settings), *text_talks(split, settings)]:
        for listener in listeners:
            listener.add(talk)
    for part in [*writers, *listeners]:
        counts.update(part.close())
    return dict(counts)


def _index(settings: DigitSceneSettings, counts: dict[str, dict[str, int]]) -> dict[str, Any]:
    return {
        'name': 'DigitScenes',
        'version': VERSION,
        'settings': asdict(settings),
        'counts': counts,
        'source': "1,797 real scans: UCI 'Optical Recognition of Handwritten Digits' (CC BY 4.0), as in scikit-learn",
        'source_digits': {split: len(load_source_digits(split)) for split in SPLITS},
        'splits': 'train and test are made from disjoint source digits',
        'smallest_visible_share': MIN_VISIBLE,
        'layout': LAYOUT,
    }
