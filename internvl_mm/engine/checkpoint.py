"""Training states on disk: a folder of safetensors and JSON, either complete or not there at all.

``checkpoints/iter_000123/`` holds

- ``meta.json``: position, seed, versions, number of processes, resolved config;
- ``model.safetensors``: the whole model under its own names, or its trainable part; of strategies that share out
  weights ``model.rank0.safetensors``, …, what each process had of it, and ``model.shares.json``, the index;
- ``optimizer``, ``param_schedulers``, ``message_hub`` and what hooks add, each as :mod:`~internvl_mm.engine.trees`;
- ``rng.rank0``, …: random states of each process; ``shard.rank0``, …: its part of a partitioned optimiser;
- ``manifest.json``: size and sha256 of every file, written last.

Beside the folders, the file ``latest`` names the newest one.
"""

from __future__ import annotations

import functools
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from safetensors import SafetensorError
from torch import Tensor, nn

from internvl_mm.models.convert.files import ShareFiles, like
from internvl_mm.utils.disk import free_space, is_full
from internvl_mm.utils.errors import CheckpointError
from internvl_mm.utils.hashing import hash_file
from internvl_mm.utils.states import (
    LATEST,
    MANIFEST,
    MODEL,
    MODEL_SHARES,
    SHARES,
    check_files,
    find_states,
    model_file,
    state_position,
)

from .partition import Shares
from .trees import Files, load_tensors, load_tree, render_tree, write_files

FROZEN = 'frozen_sha256'  # of a state's meta: hash of the weights that were left out, where some were
BEST = 'best'  # pointer file beside the states, and name in the message hub
_SHOWN = 6  # names listed in an error
# Trees the runner itself writes; others come from hooks.
_OWN_TREES = frozenset({'meta', 'optimizer', 'param_schedulers', 'message_hub'})


# ---- writing ---------------------------------------------------------------------------------------------------------


def render_state(shared: dict[str, Any], own: dict[str, Any]) -> Files:
    """The files this process contributes to a training state; live tensors are referred to, not copied.

    Args:
        shared: What the first process writes, file name to tree; ``'model'`` is a flat dict of tensors. Of
            :class:`~internvl_mm.engine.partition.Shares` each process writes its own.
        own: What each process writes under ``name.rank<r>``.
    """
    rank = get_rank()
    files: Files = {}
    # Whole tensors are the same everywhere: one process writes them.
    trees = {name: tree for name, tree in shared.items() if rank == 0 or isinstance(tree, Shares)}
    trees |= {f'{name}.rank{rank}': own[name] for name in own}
    for name, tree in trees.items():
        if isinstance(tree, Shares):
            files |= _render_shares(name, tree)
        elif name == 'model':
            files[MODEL] = tree
        else:
            files |= render_tree(name, tree)
    return files


def _render_shares(name: str, shares: Shares) -> Files:
    names = [f'{name}.rank{rank}.safetensors' for rank in range(get_world_size())]
    files: Files = {names[get_rank()]: dict(shares)}
    if get_rank() == 0:
        files[f'{name}{SHARES}'] = json.dumps(dict(files=names, shapes=shares.shapes))
    return files


def write_state(
    folder: str | Path,
    files: Files,
    *,
    group: Any = None,
    copied: Callable[[], None] = lambda: None,
    done: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Write a training state; called by every process of the run, which must see the same file system.

    Everything is written to a temporary folder beside the target, synced, listed in a manifest, and renamed. Whatever
    goes wrong before the rename leaves the target as it was.

    Args:
        folder: The state's folder; an older one of this name is replaced.
        files: From :func:`render_state`.
        group: Process group of a thread that must not meet the training's.
        copied: Called once the tensors of this process are no longer needed, also after an error.
        done: Called by the first process with the folder once the state is complete on the disk: it moves pointers
            and deletes older states. No process returns before it did.

    Raises:
        CheckpointError: Disk full, not writable; on every process, whichever failed.
    """
    # Beside the target, so that the rename stays on one file system; the dot hides it from find_states.
    folder = Path(folder)
    rank, scratch = get_rank(), folder.with_name(f'.{folder.name}.unfinished')
    together = functools.partial(_together, folder, group)
    try:
        # Four meetings: nobody writes before the folder is there, nor renames it before all have written; and nobody
        # leaves before `latest` has moved, since launchers kill the others as soon as one process ends.
        try:
            together(lambda: _make_scratch(scratch) if rank == 0 else None)
            together(lambda: write_files(scratch, files))
        finally:
            copied()
        together(lambda: _finish(scratch, folder) if rank == 0 else None)
        together(lambda: done(folder) if rank == 0 else None)
    finally:
        if rank == 0:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def save_state(folder: str | Path, shared: dict[str, Any], own: dict[str, Any]) -> Path:
    """:func:`render_state` and :func:`write_state` in one."""
    return write_state(folder, render_state(shared, own))


def point_latest(folder: Path, *, name: str = LATEST) -> None:
    """Make ``latest`` (or another pointer) beside a state name it, atomically."""
    pointer = folder.with_name(name)
    scratch = folder.with_name(f'.{name}.unfinished')
    try:
        # A name, not a path: the run folder can be moved.
        scratch.write_text(f'{folder.name}\n', 'utf-8')
        _sync(scratch)
        os.replace(scratch, pointer)
    except OSError as error:
        raise _cannot_write(pointer, error) from error


def prune(parent: Path, *, keep_last: int, protected: Iterable[str] = ()) -> list[Path]:
    """Delete older ``iter_*`` and ``epoch_*`` states of a folder.

    Args:
        parent: The folder of states.
        keep_last: How many of the newest to keep, at least one.
        protected: Names kept anyway, such as the best.

    Returns:
        What was deleted.

    Raises:
        CheckpointError: One cannot be deleted.
    """
    states = sorted(find_states(parent), key=state_position)
    keep = {*protected, *(state.name for state in states[-max(keep_last, 1) :])}
    doomed = [state for state in states if state.name not in keep]
    for state in doomed:
        delete_state(state)
    return doomed


def delete_state(state: Path) -> None:
    """Delete a training state, unless another process takes it at the same time.

    Raises:
        CheckpointError: It cannot be deleted.
    """
    # Renamed first, so that an interrupted deletion leaves no half state under a valid name.
    grave = state.with_name(f'.{state.name}.deleted')
    try:
        state.rename(grave)
        remove_tree(grave)
    except FileNotFoundError:
        pass  # a start that goes on from this one's states was faster
    except OSError as error:
        raise CheckpointError(
            f'{state} was not deleted ({error}), and the disk would fill: make its folder writable, or raise '
            'keep_last; newer states are complete'
        ) from error


def remove_tree(folder: Path) -> None:
    """Remove a folder, also while another process does the same."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        # Each leaves what the other one has taken already.
        shutil.rmtree(folder, ignore_errors=True)


def _together(target: Path, group: Any, action: Callable[[], None]) -> None:
    """Run an action on every process; an error on any of them is raised on all, so that none waits for ever."""
    problem: CheckpointError | None = None
    try:
        action()
    except CheckpointError as error:
        problem = error
    except (OSError, SafetensorError) as error:
        problem = _cannot_write(target, error)
    # Also the point where processes wait for one another.
    messages = [message for message in all_gather_object(problem and str(problem), group) if message]
    if messages:
        raise problem or CheckpointError(messages[0])


def _cannot_write(target: Path, error: Exception) -> CheckpointError:
    if is_full(error):
        return CheckpointError(
            f'{target} was not written: the disk is full ({free_space(target)}). Free space, keep fewer checkpoints, '
            'save trainable parameters only, or choose another work_dir; older checkpoints are untouched'
        )
    return CheckpointError(
        f'{target} was not written ({error}): make the folder writable or choose another work_dir; '
        'older checkpoints are untouched'
    )


def _make_scratch(scratch: Path) -> None:
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed while it wrote
    scratch.mkdir(parents=True)


def _finish(scratch: Path, folder: Path) -> None:
    files = sorted(path for path in scratch.iterdir())
    for path in files:
        _sync(path)
    manifest = {path.name: dict(size=path.stat().st_size, sha256=hash_file(path)) for path in files}
    (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1), 'utf-8')
    _sync(scratch / MANIFEST)
    # The names in the folder, too; without this a power cut could leave a manifest of files that are not there.
    _sync(scratch)
    # A folder cannot be renamed onto one that has files.
    replaced = folder.with_name(f'.{folder.name}.replaced')
    if folder.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        folder.rename(replaced)
    scratch.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_meta(state: Path) -> dict[str, Any]:
    """Position, seed, number of processes and versions of a state."""
    return load_tree(state, 'meta')


def load_state(state: Path) -> dict[str, Any]:
    """Read everything of a state that this process needs, file name to tree; ``'model'`` is a dict of tensors.

    A process that the run which wrote it did not have finds no parts of its own.

    Raises:
        CheckpointError: A damaged file.
    """
    rank = get_rank()
    # One process is enough; where it chose the state itself, nothing is read again.
    if rank == 0:
        check_files(state)
    found: dict[str, Any] = {'model': load_model(state)}
    for path in sorted(state.glob('*.json')):
        owner = path.stem.partition('.rank')[2]
        # Own parts only: random states and shards belong to one rank.
        if path.name not in (MANIFEST, MODEL_SHARES) and owner in ('', str(rank)):
            found |= _load_named(path)
    return found


def load_model(state: Path) -> Mapping[str, Tensor]:
    """Whole tensors of the model of a state by name; of shares each is put together when it is asked for.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    path = model_file(state)
    return ShareFiles(path) if path.name.endswith(SHARES) else load_tensors(path)


def load_hook_states(state: Path) -> dict[str, Any]:
    """What hooks added to a training state, such as ``'ema'``, name to tree; evaluations need nothing else of it."""
    found: dict[str, Any] = {}
    for path in sorted(state.glob('*.json')):
        if (
            path.name not in (MANIFEST, MODEL_SHARES)
            and path.stem not in _OWN_TREES
            and '.rank' not in path.name
        ):
            found |= _load_named(path)
    return found


def _load_named(path: Path) -> dict[str, Any]:
    """A tree, or what shares are put together to, by name."""
    if path.name.endswith(SHARES):
        return {path.name.removesuffix(SHARES): ShareFiles(path)}
    return {path.stem.partition('.rank')[0]: load_tree(path.parent, path.stem)}


# ---- models ----------------------------------------------------------------------------------------------------------


def frozen_names(model: nn.Module) -> list[str]:
    """Names of the parameters that do not train, scales of quantised ones (``weight.absmax``) included."""
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    known = set(frozen)
    return frozen + [name for name in model.state_dict() if _owner(name, known)]


def _owner(name: str, parameters: set[str]) -> str | None:
    """The parameter that a tensor of a state dict belongs to, such as ``fc.weight`` for ``fc.weight.absmax``."""
    parts = name.split('.')
    heads = ('.'.join(parts[:length]) for length in range(1, len(parts)))
    return next((head for head in heads if head in parameters), None)


def frozen_differ(source: object, meta: Mapping[str, Any]) -> CheckpointError:
    """The error to raise where a state that leaves frozen weights out meets others than it was trained beside."""
    origin = ', '.join(f'{name}={path}' for name, path in meta.get('frozen_from', {}).items())
    return CheckpointError(
        f'{source} holds trainable parameters only, and the frozen ones of this model are not those it was '
        f'trained with (sha256 {meta[FROZEN][:12]}…, from {origin or "the random initialisation"}): '
        'give the model the same pretrained weights'
    )


def check_fit(tensors: Mapping[str, Tensor], shapes: dict[str, tuple[int, ...]], *, source: object) -> None:
    """Compare the names and shapes of saved tensors with a model's.

    Args:
        tensors: What was saved.
        shapes: What the model has.
        source: Where the tensors come from, for the error.

    Raises:
        CheckpointError: They differ; names depths, widths and tensors with both shapes.
    """
    missing = [name for name in shapes if name not in tensors]
    unexpected = [name for name in tensors if name not in shapes]
    found = {name: tuple(like(tensors, name).shape) for name in shapes if name in tensors}
    other = [name for name in found if found[name] != shapes[name]]
    if not (missing or unexpected or other):
        return
    lines = [f'{source} does not fit the model:']
    depths = _depth(tensors), _depth(shapes)
    if depths[0] != depths[1]:
        lines.append(f'  depth: {depths[0]} blocks in the checkpoint, {depths[1]} in the model')
    for title, names in (('missing', missing), ('unexpected', unexpected)):
        if names:
            lines.append(f'  {len(names)} {title}: {_listed(names)}')
    pairs = [f'{name} {found[name]} in the checkpoint, {shapes[name]} in the model' for name in other]
    if pairs:
        lines.append(f'  {len(pairs)} of another shape: {_listed(pairs)}')
    lines.append(_way_out(missing, tensors))
    raise CheckpointError('\n'.join(lines))


def _way_out(missing: list[str], saved: Iterable[str]) -> str:
    # As peft names adapters; importing it here would cost every command a second.
    if any('.lora_' in name for name in missing) and not any('.lora_' in name for name in saved):
        return (
            'The model has adapters (lora), the checkpoint has none. Adapters are put beside weights that are there '
            'before: write the checkpoint as a folder (tools/convert.py RUN FOLDER --to chat) and start from it with '
            'model.chat.pretrained=FOLDER instead of load_from'
        )
    return 'Build the model with the sizes of the checkpoint, or give weights of this model'


def _depth(names: Iterable[str]) -> int:
    # The dot in front: a name may begin with 'layers.' itself.
    numbers = (re.search(r'\.(?:layers|blocks)\.(\d+)\.', f'.{name}') for name in names)
    return 1 + max((int(number[1]) for number in numbers if number), default=-1)


def _listed(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ', '.join(names[:_SHOWN]) + (f' and {rest} more' if rest > 0 else '')


# ---- random states ---------------------------------------------------------------------------------------------------


def get_rng() -> dict[str, Any]:
    """States of all global generators of this process."""
    state = dict(
        # legacy=False: parts with names instead of a tuple.
        python=random.getstate(),
        numpy=np.random.get_state(legacy=False),
        torch=torch.get_rng_state(),
    )
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()  # the device of this process alone
    return state


def set_rng(state: dict[str, Any]) -> None:
    """Put the global generators of this process into a state of :func:`get_rng`."""
    random.setstate(state['python'])
    np.random.set_state(state['numpy'])
    torch.set_rng_state(state['torch'])
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'])


def derive_rng(*key: int) -> dict[str, Any]:
    """A state for :func:`set_rng` as a function of a key: for processes that have none to go on with."""
    before = get_rng()
    # One word of 32 bits for each generator; SeedSequence mixes the key, so that neighbours share nothing.
    words = np.random.SeedSequence(key).generate_state(3).tolist()
    random.seed(words[0])
    np.random.seed(words[1])
    torch.manual_seed(words[2])
    derived = get_rng()
    set_rng(before)
    return derived
