"""Training states on disk: complete or absent, checked when read, free of pickle."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import load_file, save_file

from internvl_mm.engine import checkpoint
from internvl_mm.engine.checkpoint import (
    check_fit,
    derive_rng,
    get_rng,
    load_state,
    point_latest,
    prune,
    save_state,
    set_rng,
)
from internvl_mm.engine.trees import load_tree, save_tensors, save_tree
from internvl_mm.utils import states
from internvl_mm.utils.errors import CheckpointError
from internvl_mm.utils.hashing import hash_file
from internvl_mm.utils.states import MANIFEST, check_files, find_state, find_states, latest_state

WEIGHTS = {'a.weight': torch.arange(6.0).view(2, 3), 'a.bias': torch.ones(2, dtype=torch.bfloat16)}


def write(parent: Path, name: str = 'iter_000001', weights: dict = WEIGHTS) -> Path:
    shared = dict(
        model=weights, meta=dict(world_size=1, iter=1), optimizer={'state': {0: {'step': torch.tensor(1.0)}}}
    )
    folder = save_state(parent / name, shared, dict(rng=get_rng()))
    point_latest(folder)
    return folder


# ---- trees ----


def test_trees_come_back_as_they_were(tmp_path: Path) -> None:
    tied = torch.randn(3)
    tree = {
        'state': {0: {'step': torch.tensor(3.0)}, 1: {'exp_avg': torch.randn(2, 2, dtype=torch.float64)}},
        'tied': [tied, tied],
        'view': torch.arange(10)[2:5],
        'groups': [{'betas': (0.9, 0.999), 'name': None, 'amsgrad': False}],
        '$odd key': 'text',
        'empty': {},
        'nan': float('inf'),
        'words': np.array([1, 2**32 - 1], dtype=np.uint32),
        'number': np.float32(0.5),
        'a': {'b': torch.zeros(1)},
        'a.b': torch.ones(1),
    }
    save_tree(tmp_path, 'tree', tree)
    found = load_tree(tmp_path, 'tree')
    torch.testing.assert_close(found['state'], tree['state'], rtol=0, atol=0)
    assert found['groups'] == tree['groups']
    assert found['$odd key'] == 'text'
    assert found['empty'] == {}
    assert found['nan'] == float('inf')
    assert found['words'].dtype == np.uint32
    assert found['words'].tolist() == [1, 2**32 - 1]
    assert found['number'] == 0.5
    assert torch.equal(found['view'], torch.tensor([2, 3, 4]))
    assert torch.equal(found['tied'][1], tied)
    assert (found['a']['b'].item(), found['a.b'].item()) == (0.0, 1.0)


def test_history_buffers_come_back(tmp_path: Path) -> None:
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    buffer.update(6.0, 2)
    save_tree(tmp_path, 'hub', dict(loss=buffer))
    found = load_tree(tmp_path, 'hub')['loss']
    assert found.mean() == buffer.mean()
    assert found.current() == 6.0
    found.update(1.0)


def test_what_only_a_pickle_could_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match='tree.hook is a Path|tree.hook is a PosixPath'):
        save_tree(tmp_path, 'tree', dict(hook=tmp_path))


def test_damaged_trees_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='cannot be read'):
        load_tree(tmp_path, 'absent')
    (tmp_path / 'new.json').write_text('{"$novelty": 1}')
    with pytest.raises(CheckpointError, match="unknown mark '.novelty'.*newer version"):
        load_tree(tmp_path, 'new')
    save_tree(tmp_path, 'cut', dict(x=torch.zeros(100)))
    (tmp_path / 'cut.safetensors').write_bytes((tmp_path / 'cut.safetensors').read_bytes()[:-8])
    with pytest.raises(CheckpointError, match='the checkpoint is damaged'):
        load_tree(tmp_path, 'cut')


# ---- states ----


def test_a_state_comes_back(tmp_path: Path) -> None:
    folder = write(tmp_path)
    found = load_state(folder)
    torch.testing.assert_close(found['model'], WEIGHTS, rtol=0, atol=0)
    assert found['optimizer']['state'][0]['step'] == 1
    assert not list(tmp_path.glob('.*'))
    assert (tmp_path / 'latest').read_text() == 'iter_000001\n'
    assert not [path for path in folder.iterdir() if path.suffix not in ('.json', '.safetensors')]


def test_random_states_come_back(tmp_path: Path) -> None:
    def draw() -> tuple:
        import random

        return random.random(), np.random.rand(), torch.rand(1).item()

    save_tree(tmp_path, 'rng', get_rng())
    expected = draw()
    assert draw() != expected
    set_rng(load_tree(tmp_path, 'rng'))
    assert draw() == expected


@pytest.mark.parametrize('step', ['fsync', 'mkdir', 'rename'])
def test_a_full_disk_leaves_the_old_state_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    folder = write(tmp_path)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(os if step == 'fsync' else Path, step, full)
        with pytest.raises(CheckpointError, match='iter_000001 was not written: the disk is full .*GiB free'):
            write(tmp_path, weights={'a.weight': torch.zeros(1)})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not list(tmp_path.glob('.*unfinished'))
    check_files(find_state(tmp_path))


def test_errors_of_the_safetensors_writer_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise checkpoint.SafetensorError(
            'Error while serializing: I/O error: No space left on device (os error 28)'
        )

    monkeypatch.setattr(checkpoint, 'write_files', full)
    with pytest.raises(CheckpointError, match='the disk is full'):
        write(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(CheckpointError, match='make the folder writable or choose another work_dir'):
        write(tmp_path / 'file')


def test_saving_again_replaces_the_state(tmp_path: Path) -> None:
    write(tmp_path)
    folder = write(tmp_path, weights={'b': torch.zeros(1)})
    assert list(load_state(folder)['model']) == ['b']
    assert not list(tmp_path.glob('.*'))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda path: path.unlink(), 'is missing'),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), 'bytes instead of'),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b'!'), 'sha256 differs'),
    ],
)
def test_damaged_states_are_refused(tmp_path: Path, damage: Any, message: str) -> None:
    folder = write(tmp_path)
    damage(folder / 'model.safetensors')
    with pytest.raises(CheckpointError, match=message):
        load_state(folder)


def test_a_manifest_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path)
    manifest = folder / MANIFEST
    content = manifest.read_bytes()
    # Broken JSON as well as good JSON of other keys, names and numbers; blanks are no content.
    for place in range(len(content)):
        if not content[place : place + 1].isspace():
            manifest.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(CheckpointError):
                check_files(folder)
    for other in (b'{}', b'[]', b'null', b'{"model.safetensors": 3}'):
        manifest.write_bytes(other)
        with pytest.raises(CheckpointError, match=r'manifest.json (cannot be read|lists no file)'):
            check_files(folder)


def test_a_new_process_finds_no_random_state_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path)
    assert 'rng' in load_state(folder)
    monkeypatch.setattr(checkpoint, 'get_rank', lambda: 1)
    found = load_state(folder)
    assert 'rng' not in found and 'model' in found
    before = torch.get_rng_state()
    states = [derive_rng(0, 5, rank)['torch'] for rank in (0, 1, 1)]
    assert torch.equal(torch.get_rng_state(), before)  # deriving draws nothing
    assert torch.equal(states[1], states[2]) and not torch.equal(states[0], states[1])


def test_tensors_are_written_as_the_library_writes_them(tmp_path: Path) -> None:
    tensors = {
        'wide': torch.randn(3, 5),
        'half': torch.randn(7).bfloat16(),
        'flags': torch.tensor([True, False, True]),
        'number': torch.tensor(3, dtype=torch.int64),
        'empty': torch.zeros(0, 4),
        'strided': torch.arange(12.0).view(3, 4).T,
    }
    save_tensors(tmp_path / 'ours.safetensors', tensors)
    found = load_file(tmp_path / 'ours.safetensors')
    torch.testing.assert_close(found, tensors, rtol=0, atol=0)
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(plain, tmp_path / 'theirs.safetensors')
    assert (tmp_path / 'ours.safetensors').stat().st_size == (tmp_path / 'theirs.safetensors').stat().st_size
    tied = torch.ones(2)
    save_tensors(tmp_path / 'tied.safetensors', dict(a=tied, b=tied))
    assert load_file(tmp_path / 'tied.safetensors').keys() == {'a', 'b'}
    with pytest.raises(TypeError, match='for which safetensors has no name'):
        save_tensors(tmp_path / 'odd.safetensors', dict(a=torch.zeros(1, dtype=torch.complex128)))


# ---- finding and keeping ----


def test_the_latest_state_is_found_from_anywhere(tmp_path: Path) -> None:
    assert latest_state(tmp_path) is None
    old = write(tmp_path / '20260101_000000' / 'checkpoints', 'iter_000009')
    new = write(tmp_path / '20260102_000000' / 'checkpoints', 'iter_000003')
    (tmp_path / '20260103_000000' / 'checkpoints').mkdir(parents=True)  # started, nothing saved yet
    assert (
        latest_state(tmp_path) == find_state(tmp_path) == find_state(new.parents[1]) == find_state(new) == new
    )
    assert find_state(old.parents[1]) == old
    # The pointer names a state that is gone: the newest complete one counts.
    (new.parent / 'latest').write_text('iter_000099\n')
    assert latest_state(tmp_path) == new


def test_nothing_to_find_is_explained(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='it holds no training state. Give a folder such as'):
        find_state(tmp_path)
    with pytest.raises(CheckpointError, match='it does not exist'):
        find_state(tmp_path / 'absent')


def test_old_states_are_deleted_but_not_protected_ones(tmp_path: Path) -> None:
    for number in (2, 4, 10, 100):
        write(tmp_path, f'iter_{number}')
    write(tmp_path, 'best_top1')
    doomed = prune(tmp_path, keep_last=2, protected=['iter_2'])
    assert [path.name for path in doomed] == ['iter_4']
    assert {path.name for path in find_states(tmp_path)} == {'iter_2', 'iter_10', 'iter_100'}
    assert (tmp_path / 'best_top1').exists()


def test_a_file_that_did_not_change_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = write(tmp_path, 'iter_1')
    hashed: list[str] = []

    def count(path: Path) -> str:
        hashed.append(path.name)
        return hash_file(path)

    monkeypatch.setattr(states, 'hash_file', count)
    files = sorted(path.name for path in state.iterdir() if path.name != MANIFEST)
    # Just written: another change might leave the same time.
    check_files(state)
    check_files(state)
    assert sorted(hashed) == sorted([*files, *files])
    for path in state.iterdir():
        os.utime(path, (0, path.stat().st_mtime - 60))
    hashed.clear()
    check_files(state)
    load_state(state)
    assert sorted(hashed) == files
    (state / 'meta.json').write_bytes((state / 'meta.json').read_bytes()[::-1])
    with pytest.raises(CheckpointError, match='meta.json was changed after it was written'):
        load_state(state)


# ---- models ----


def test_a_state_that_cannot_be_deleted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        write(tmp_path, f'iter_{number}')

    def fail(path: Path) -> None:
        raise PermissionError(errno.EACCES, 'not allowed')

    monkeypatch.setattr(checkpoint.shutil, 'rmtree', fail)
    with pytest.raises(CheckpointError, match='iter_1 was not deleted .*not allowed.*keep_last'):
        prune(tmp_path, keep_last=1)


def test_fitting_tensors_pass_and_others_are_listed() -> None:
    shapes = {'layers.0.w': (2, 3), 'layers.1.w': (2, 3), 'head.w': (4,)}
    check_fit({name: torch.zeros(shape) for name, shape in shapes.items()}, shapes, source='x')
    with pytest.raises(CheckpointError) as caught:
        check_fit({'layers.0.w': torch.zeros(2, 5), 'extra': torch.zeros(1)}, shapes, source='folder/x')
    text = str(caught.value)
    assert text.startswith('folder/x does not fit the model:')
    assert 'depth: 1 blocks in the checkpoint, 2 in the model' in text
    assert '2 missing: layers.1.w, head.w' in text
    assert '1 unexpected: extra' in text
    assert 'layers.0.w (2, 5) in the checkpoint, (2, 3) in the model' in text


def test_weights_without_adapters_for_a_model_with_them_have_a_way_out() -> None:
    saved = {'layer.weight': torch.zeros(2, 3)}
    shapes = {'layer.base_layer.weight': (2, 3), 'layer.lora_A.default.weight': (1, 3)}
    with pytest.raises(CheckpointError, match=r'model\.chat\.pretrained=FOLDER instead of load_from'):
        check_fit(saved, shapes, source='x')
    # With adapters in both it is another mistake.
    with pytest.raises(CheckpointError, match='Build the model with the sizes of the checkpoint'):
        check_fit({'other.lora_A.default.weight': torch.zeros(1, 3)}, shapes, source='x')
