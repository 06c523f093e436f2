"""Do the promises about checkpoints and bad data hold on this machine and its file system?"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import resource
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image

from internvl_mm.data.decode import ImageDecoder
from internvl_mm.engine.checkpoint import load_state, point_latest, prune, save_state
from internvl_mm.utils.errors import CheckpointError, DataError
from internvl_mm.utils.states import check_files, latest_state

KILLS = 20
FLIPS = 20
CUTS = 20


def save(folder: Path, number: int) -> Path:
    """Write a small training state as the runner and its hook do, and make it the latest."""
    state = save_state(
        folder / f'iter_{number:06d}',
        # 16 KB of one number: weights of two saves mixed up would show.
        dict(model={'weight': torch.full((4096,), float(number))}, meta=dict(world_size=1, iter=number)),
        dict(rng=dict(torch=torch.get_rng_state())),
    )
    point_latest(state)
    prune(folder, keep_last=2)
    return state


def kill_while_saving(folder: Path, kills: int) -> tuple[int, int]:
    """Kill a saving process at random moments; after each, the newest state must be whole.

    Args:
        folder: An empty folder.
        kills: How often.

    Returns:
        Number of the last state, and how many kills hit a save.

    Raises:
        CheckpointError: A state that counts as complete is damaged.
        AssertionError: A state that had been complete is gone.
    """
    # The same moments on every machine, relative to how fast its disk is.
    draw, last, hits = random.Random(0), 1, 0
    started = time.perf_counter()
    save(folder, 1)
    # A child may get several saves through before it is killed.
    longest = 4 * (time.perf_counter() - started)
    for _ in range(kills):
        # A fork starts in microseconds; the child never returns.
        child = os.fork()
        if child == 0:
            number = last
            while True:
                number += 1
                save(folder, number)
        time.sleep(draw.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        state = latest_state(folder)
        assert state is not None, 'every state is gone'
        check_files(state)
        found = load_state(state)
        number = found['meta']['iter']
        assert number >= last, f'state {last} had been complete and {number} is the newest now'
        assert bool((found['model']['weight'] == number).all()), f'state {number} holds other weights'
        # Disks and their load differ: about every second child shall get a save through.
        longest *= 1.3 if number == last else 0.8
        # A kill within a save leaves its scratch folder behind.
        hits += any(path.name.endswith('.unfinished') for path in folder.iterdir())
        last = number
    return last, hits


def killed_while_saving(folder: Path) -> str:
    """A process killed while it saves leaves the last complete state."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        last, hits = kill_while_saving(Path(scratch), KILLS)
    return f'{KILLS} kills, {hits} of them within a save: nothing lost of {last} states'


def damaged_checkpoints(folder: Path) -> str:
    """Flipped bits and cut files are refused."""
    draw, refused = random.Random(0), 0
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        state = save(Path(scratch), 1)
        files = sorted(state.iterdir())
        for attempt in range(FLIPS):
            file = draw.choice(files)
            content = file.read_bytes()
            place = draw.randrange(len(content))
            flipped = (
                content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :]
            )
            # In turns: a cut file has another size, a flipped bit shows in the hash alone.
            file.write_bytes(content[:place] if attempt % 2 else flipped)
            try:
                check_files(state)
            except CheckpointError:
                refused += 1
            file.write_bytes(content)
        check_files(state)
    assert refused == FLIPS, f'{FLIPS - refused} of {FLIPS} damaged states were accepted'
    return f'{FLIPS} of {FLIPS} damaged states refused'


@contextlib.contextmanager
def io_errors(calls: int) -> Iterator[None]:
    """Let every sync after the first ``calls`` fail, which is where a dying disk shows."""
    sync, left = os.fsync, [calls]

    def fail(handle: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(handle)

    with patch.object(os, 'fsync', fail):
        yield


@contextlib.contextmanager
def short_writes(size: int) -> Iterator[None]:
    """Let the system cut every file of this process at ``size`` bytes: a real short write, then an error."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal that comes along.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def fails_to_save(folder: Path, fault: contextlib.AbstractContextManager) -> None:
    """Save under a fault: it must be told, and the state before must stay the latest and whole."""
    before = latest_state(folder)
    try:
        with fault:
            number = save(folder, 2)
    except CheckpointError:
        number = None
    assert number is None, f'{number} was saved on a disk that fails'
    assert latest_state(folder) == before, 'another state is the latest now'
    check_files(before)


def failing_disk(folder: Path) -> str:
    """Input/output errors and short writes while saving are told, and nothing before them is lost."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        files = len(list(save(Path(scratch), 1).iterdir()))
        # One more than the files of a state: the folder is synced, too.
        # The fault wanders from the first synced file to the folder.
        for calls in range(files + 1):
            fails_to_save(Path(scratch), io_errors(calls))
        # Bytes: nothing gets through, the header is cut, the tensors are cut (16 KB of weights).
        for size in (0, 100, 4000):
            fails_to_save(Path(scratch), short_writes(size))
    return 'input/output error and file too large, at any file: refused, the state before is whole'


def damaged_images(folder: Path) -> str:
    """Cut image files are refused."""
    buffer = io.BytesIO()
    # Noise does not compress: every cut loses pixels.
    Image.effect_noise((64, 64), 80).convert('RGB').save(buffer, 'PNG')
    content, draw, refused = buffer.getvalue(), random.Random(0), 0
    for _ in range(CUTS):
        try:
            # Not in the last tenth: a PNG cut in its very last bytes may still have all pixels.
            ImageDecoder()(content[: draw.randrange(len(content) * 9 // 10)], 'cut.png')
        except DataError:
            refused += 1
    assert refused == CUTS, f'{CUTS - refused} of {CUTS} cut images were accepted'
    return f'{CUTS} of {CUTS} cut images refused'
