"""Do the promises about a running training hold on this machine? Each fault is injected into a training of seconds."""

from __future__ import annotations

import gzip
import json
import os
import signal
import struct
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image

from internvl_mm.data.datasets import ImageListDataset
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.engine.hooks import HangWatchHook, NonFiniteLossError
from internvl_mm.engine.steps import BatchTooLargeError, HalvingStep
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.utils.door import RESUMABLE
from internvl_mm.utils.errors import DataError
from internvl_mm.utils.states import latest_state

from .trial import SIZE, Kick, Poison, next_worker, run, trial

PICTURES = 1200  # of which one in a hundred is spoiled, one of each kind
WRONG_LABEL = 'a label out of range'


def _chunk(name: bytes, content: bytes) -> bytes:
    # A chunk of a PNG: length, name, content, checksum of the last two.
    return struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))


def _bomb() -> bytes:
    # 60,000 × 60,000 pixels in the header of 100 bytes.
    # 8 bits, RGB; then compression, filter and interlacing, all the only or first choice.
    header = _chunk(b'IHDR', struct.pack('>IIBBBBB', 60_000, 60_000, 8, 2, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + header + _chunk(b'IDAT', zlib.compress(bytes(100))) + _chunk(b'IEND', b'')


def _as(kind: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        image = Image.open(path).convert('RGB')
        image.load()
        image.save(path, kind)

    return write


def _cut_jpeg(path: Path) -> None:
    _as('JPEG')(path)
    path.write_bytes(path.read_bytes()[:-200])  # the header still reads


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[18] ^= 1  # in the width, which the checksum of the header covers
    path.write_bytes(content)


# What is done to a file; the label is wrong in the list.
SPOIL: dict[str, Callable[[Path], Any]] = {
    'an empty file': lambda path: path.write_bytes(b''),
    'a cut PNG': lambda path: path.write_bytes(path.read_bytes()[:200]),
    'a cut JPEG': _cut_jpeg,
    'a flipped bit in the header': _flip,
    'zeros': lambda path: path.write_bytes(bytes(1000)),
    'an error page': lambda path: path.write_text('<html><body>404 Not Found</body></html>'),
    'a decompression bomb': lambda path: path.write_bytes(_bomb()),
    'a format that is not allowed': _as('TIFF'),
    'a compressed file': lambda path: path.write_bytes(gzip.compress(path.read_bytes())),
    'a missing file': Path.unlink,
    'a folder': _replace_by_folder,
    WRONG_LABEL: lambda path: None,
}


class WithoutSamples(ImageListDataset):
    """The same pictures without some of them, which leave their batches as bad samples do."""

    def __init__(self, *args: Any, missing: set[int], **options: Any):
        super().__init__(*args, **options)
        self.missing = missing

    def load(self, index: SampleIndex) -> dict[str, Any]:
        """See :class:`ImageListDataset`."""
        if int(index) in self.missing:
            raise DataError(f'{self.path(index)}: left out')
        return super().load(index)


def _write_pictures(folder: Path, count: int) -> dict[str, Any]:
    # Noise does not compress: every cut loses pixels. Eight pictures are enough for many files.
    noise = [Image.effect_noise((SIZE, SIZE), 80).convert('RGB') for _ in range(8)]
    (folder / 'images').mkdir()
    for number in range(count):
        noise[number % 8].save(folder / f'images/{number}.png')
    (folder / 'list.txt').write_text(''.join(f'{number}.png {number % 10}\n' for number in range(count)))
    return dict(
        root=str(folder / 'images'),
        list_file=str(folder / 'list.txt'),
        num_classes=10,
        on_error='skip',
        name='noise',
    )


def bad_samples(folder: Path, pictures: int = PICTURES) -> str:
    """Bad samples of twelve kinds are in the ledger, all and alone, and the loss is that of a run without them."""
    step = pictures // len(SPOIL)
    spoiled = {7 + step * number: kind for number, kind in enumerate(SPOIL)}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        here = Path(scratch)
        files = _write_pictures(here, pictures)
        clean = dict(type=WithoutSamples, missing=set(spoiled), **files)
        _, expected = run(trial(here / 'clean', dataset=clean, batch_size=60))
        for number, kind in spoiled.items():
            SPOIL[kind](here / f'images/{number}.png')
        lines = (here / 'list.txt').read_text().splitlines()
        wrong = next(number for number, kind in spoiled.items() if kind == WRONG_LABEL)
        lines[wrong] = f'{wrong}.png 99'  # of 10 classes
        (here / 'list.txt').write_text('\n'.join(lines))
        runner, found = run(trial(here / 'bad', dataset=dict(type=ImageListDataset, **files), batch_size=60))
        ledger = (Path(runner.log_dir) / 'bad_samples.jsonl').read_text().splitlines()
    listed = {json.loads(line)['index'] for line in ledger}
    missed = [kind for number, kind in spoiled.items() if number not in listed]
    assert not missed and len(ledger) == len(spoiled), f'the ledger has {sorted(listed)}; it misses {missed}'
    assert found.losses == expected.losses, 'the losses differ from those of a run without the bad samples'
    return f'{len(ledger)} kinds among {pictures} pictures: each in the ledger, {len(found.losses)} losses unchanged'


def not_a_number(folder: Path) -> str:
    """A step whose loss or gradient is NaN changes nothing; three in a row, or a NaN weight, stop the run."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for what in ('loss', 'gradient'):
            runner, seen = run(trial(Path(scratch, what)), Poison(what, {3}))
            check_skipped(seen.weights, 3)
            (line,) = (Path(runner.log_dir) / 'non_finite.jsonl').read_text().splitlines()
            assert json.loads(line)['what'] == what and len(json.loads(line)['samples']) == 4, line
        for name, poison, ends in (
            ('row', Poison('loss', {2, 3, 4}), 4),
            # As many in a row as the hook is patient.
            ('weight', Poison('parameter', {2}), None),
        ):
            _expect(NonFiniteLossError, trial(Path(scratch, name)), poison)
            state = latest_state(Path(scratch, name))
            last = state and int(state.name.removeprefix('iter_'))
            assert last == ends, f'{name}: the last state is {state}'
    return (
        'NaN in loss and gradient skipped, three in a row stopped after saving, a NaN weight stopped at once'
    )


def check_skipped(weights: list[torch.Tensor], step: int) -> None:
    """The weights before each step and after the last: one step, counted from 1, changed nothing, all others did."""
    changed = [not torch.equal(before, after) for before, after in zip(weights, weights[1:])]
    expected = [number != step for number in range(1, len(weights))]
    assert changed == expected, f'the steps that changed weights: {changed}, expected {expected}'
    assert all(torch.isfinite(vector).all() for vector in weights), 'a weight is not finite'


def _expect(kind: type[BaseException], config: dict[str, Any], *hooks: Any) -> BaseException:
    try:
        run(config, *hooks)
    except kind as error:
        return error
    raise AssertionError(f'the run went on where {kind.__name__} was due')


def limited_memory(limit: int) -> Any:
    """Inside, a classifier has memory for so many pictures at a time."""
    loss = ImageClassifier.loss

    def limited(task: Any, inputs: torch.Tensor, data_samples: list[Any]) -> dict[str, torch.Tensor]:
        if len(inputs) > limit:
            raise torch.OutOfMemoryError(f'tried to allocate {len(inputs)} pictures')
        return loss(task, inputs, data_samples)

    return patch.object(ImageClassifier, 'loss', limited)


def out_of_memory(folder: Path) -> str:
    """A batch too large names its samples and what to change; taken in halves, it gives the same gradient."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        _, whole = run(trial(Path(scratch, 'whole')))
        with limited_memory(3):  # of batches of four
            text = str(_expect(BatchTooLargeError, trial(Path(scratch, 'told'))))
            _, halves = run(trial(Path(scratch, 'halves'), step=dict(type=HalvingStep)))
    assert all(word in text for word in ('DigitSceneDataset[', '(1)', '(2)', '(3)', 'HalvingStep')), text
    error = (whole.weights[-1] - halves.weights[-1]).abs().max().item()
    # Sums in another order; SGD of rate 0.1, so that weights differ by a tenth of what gradients do.
    assert error < 1e-6, f'weights of a run in halves differ by {error:.1e}'
    return f'told with its samples; in halves, {len(halves.losses)} steps end within {error:.0e} of the whole batches'


def stop_signal(folder: Path) -> str:
    """A run that is asked to stop saves a state first and says so in its status."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        stop = _expect(SystemExit, trial(Path(scratch)), Kick(signal.SIGTERM, 3))
        state = latest_state(Path(scratch))
    # 128 + SIGTERM.
    assert getattr(stop, 'code', None) == 143, f'the status is {stop}'
    assert state is not None and state.name == 'iter_000003', f'the last state is {state}'
    return 'SIGTERM in step 3: saved after it, status 143'


def dead_worker(folder: Path) -> str:
    """A data worker that is killed ends the run with its number."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        kill = Kick(signal.SIGKILL, 2, next_worker())
        config = trial(Path(scratch), workers=1)
        # More to read than a worker reads ahead, or the run could end without it.
        config['train_dataloader']['dataset']['length'] = 200
        error = _expect(RuntimeError, config, kill)
    assert 'DataLoader worker (pid' in str(error), str(error)
    return f'told after {time.perf_counter() - started:.1f} s: {str(error).splitlines()[0]}'


def hang(folder: Path, timeout: float = 0.5) -> str:
    """A process in which nothing moves ends and leaves its stacks."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what it tells is not news here
            HangWatchHook(timeout).before_train(SimpleNamespace(log_dir=scratch, rank=0))
            # Far longer than the hook waits: it ends the process, or the check fails.
            time.sleep(60 * timeout)
            # At once: what the parent has registered for its own exit is not the child's to do.
            os._exit(0)
        _, status = os.waitpid(child, 0)
        file = Path(scratch, 'stacks.rank0.txt')
        stacks = file.read_text() if file.exists() else ''
    assert os.waitstatus_to_exitcode(status) == RESUMABLE, f'the process ended with {status}'
    assert 'in hang' in stacks, f'the stacks do not show where it stood: {stacks[:200]}'
    return f'ended after {timeout} s with status {RESUMABLE} and its stacks'
