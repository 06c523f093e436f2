"""Which state a run goes on from, and whether it can go on in the same order."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, get_rank

from internvl_mm.utils.console import console
from internvl_mm.utils.errors import CheckpointError
from internvl_mm.utils.states import find_state, sound_state

from .checkpoint import read_meta
from .patience import patient_group
from .strategies.launch import join_group


def choose_state(work_dir: str, resume: bool | str) -> str | None:
    """The training state to resume from, ``None`` to start from the beginning.

    Args:
        work_dir: Where ``True`` and ``'auto'`` look.
        resume: Of the runner.

    Raises:
        CheckpointError: The path that was given holds no state, or only damaged ones.
    """
    if not resume:
        return None
    # A path that was given by name is never replaced by another state; find_state says what is wrong with it.
    if isinstance(resume, str) and resume != 'auto':
        return str(sound_state(resume) or find_state(resume))
    state = sound_state(work_dir)
    if state is None:
        console.print(f'nothing to resume in {work_dir}: starting from the beginning')
    return None if state is None else str(state)


def choose_together(
    work_dir: str, resume: bool | str, launcher: str, env_cfg: Mapping[str, Any]
) -> str | None:
    """:func:`choose_state` by the first process for all: hashing a large state is work for one.

    Args:
        work_dir: See :func:`choose_state`.
        resume: See :func:`choose_state`.
        launcher: Of the runner; with one that starts several processes they meet here.
        env_cfg: Of the runner; its ``dist_cfg`` says how they meet.

    Raises:
        CheckpointError: See :func:`choose_state`; on every process.
    """
    if not resume or launcher == 'none':
        return choose_state(work_dir, resume)
    join_group(launcher, **(env_cfg.get('dist_cfg') or {}))
    # State and error; hashing may take longer than a meeting usually may.
    found: list[Any] = [None, None]
    if get_rank() == 0:
        try:
            found[0] = choose_state(work_dir, resume)
        except CheckpointError as error:
            found[1] = str(error)
    broadcast_object_list(found, group=patient_group())
    if found[1] is not None:
        raise CheckpointError(found[1])
    return found[0]


def seed_of(randomness: dict | None, resume: str | None) -> dict[str, Any]:
    """The seed of the run: of the state it resumes from, of the config, or drawn by mmengine.

    Raises:
        CheckpointError: The config's is another than the state's, so that the order of samples would change.
    """
    randomness = dict(randomness or {})
    if resume is not None:
        seed = read_meta(Path(resume))['seed']
        # Left out or None means: any, so the state's.
        if randomness.get('seed', seed) not in (seed, None):
            raise CheckpointError(
                f'{resume} was written with seed {seed} and the config has randomness.seed={randomness["seed"]}, '
                f'so the order of samples would change: set randomness.seed={seed}, '
                'or start from its weights with load_from'
            )
        # mmengine would draw a new one for every start.
        randomness['seed'] = seed
    return dict(dict(seed=None), **randomness)


def order_facts(loader: Any, *, world_size: int, by_epoch: bool) -> dict[str, Any]:
    """What decides which samples a step takes, for a state's meta.

    Args:
        loader: Training data.
        world_size: Processes.
        by_epoch: Whether the loop counts epochs, whose lengths then matter.
    """
    # Samplers deal a global order out in turns, so that the k-th step takes positions k·G to (k+1)·G of it.
    facts: dict[str, Any] = dict(samples=len(loader.dataset))
    # The loader's own is None beside a batch sampler, and data that come in batches have neither.
    size = getattr(loader.batch_sampler, 'batch_size', None)
    if size is not None:
        facts['global_batch'] = size * world_size
    if by_epoch:
        facts['steps_per_epoch'] = len(loader)
    return facts


def check_order(meta: Mapping[str, Any], own: Mapping[str, Any], state: str) -> None:
    """Compare :func:`order_facts` of a state with the run's.

    Raises:
        CheckpointError: The run would go on at another place of the order; says what to set.
    """
    # States of older versions lack it; what one side does not know is not compared.
    saved = meta.get('order', {})
    ways_out = dict(
        samples='give it the same data',
        global_batch='set train_dataloader.batch_size = the saved global batch / number of processes',
        steps_per_epoch='set train_dataloader.drop_last=True, which makes epochs equally long on any number of '
        'processes, from the beginning of training',
    )
    for fact, way_out in ways_out.items():
        if fact in saved and fact in own and saved[fact] != own[fact]:
            raise CheckpointError(
                f'{state} was written with {fact}={saved[fact]} and this run has {own[fact]}, so that it would go on '
                f'at another place of the order of samples: {way_out}, or start from its weights with load_from'
            )


def kept_settings(saved: str, own: str) -> list[str]:
    """Settings of optimiser and schedules that differ from those of a state, whose own go on, said one by one.

    Args:
        saved: Config of the state, as Python text.
        own: Config of the run that goes on.
    """
    before, now = _settings_of(saved), _settings_of(own)
    return [
        f'{name}={now.get(name, "absent")} has no effect: a resumed run keeps optimiser and schedules of its state, '
        f'with {name}={before.get(name, "absent")}; to train with others start from its weights with load_from'
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]


def check_kinds(saved: str, own: str, state: str) -> None:
    """Compare the kinds of optimiser and schedules, of which a state only holds numbers.

    Args:
        saved: See :func:`kept_settings`.
        own: See :func:`kept_settings`.
        state: Its path, for the message.

    Raises:
        CheckpointError: One differs, or there are more or fewer, and would take up numbers of another.
    """
    before, now = (_kinds_of(_settings_of(config)) for config in (saved, own))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise CheckpointError(
                f'{state} was written with {name}={before.get(name, "absent")} and this run has '
                f'{now.get(name, "absent")}, which cannot go on from its numbers: resume with the same, or start from '
                'its weights with load_from'
            )


def _kinds_of(settings: Mapping[str, str]) -> dict[str, str]:
    # Without modules: 'AdamW' of a registry and 'torch.optim.adamw.AdamW' are one.
    return {
        name: value.strip('\'"').rpartition('.')[2]
        for name, value in settings.items()
        if re.fullmatch(r'(optim_wrapper\.optimizer|param_scheduler\.\d+)\.type', name)
    }


@functools.lru_cache(maxsize=2)  # a state's and the run's
def _settings_of(config: str) -> Mapping[str, str]:
    """Values of ``optimizer`` and ``param_scheduler`` by dotted name, as text; nothing is executed."""
    found: dict[str, str] = {}

    def collect(node: ast.expr, place: str) -> None:
        if isinstance(node, ast.Call):  # dict(…), the only call there is
            for keyword in node.keywords:
                collect(keyword.value, f'{place}.{keyword.arg}')
        else:
            found[place] = ast.unparse(node)

    for line in ast.parse(config).body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            name = line.targets[0].id
            if name in ('optim_wrapper', 'train_cfg'):
                collect(line.value, name)
            elif name == 'param_scheduler':
                # A single one needs no list.
                parts = line.value.elts if isinstance(line.value, ast.List | ast.Tuple) else [line.value]
                for number, part in enumerate(parts):
                    collect(part, f'{name}.{number}')
    # A schedule without an end of its own has that of training.
    length = found.get('train_cfg.max_epochs') or found.get('train_cfg.max_iters', '')
    for place in {name.rpartition('.')[0] for name in found if name.startswith('param_scheduler.')}:
        found.setdefault(f'{place}.end', length)
    # The rest of the wrapper, such as clipping, is the config's own.
    kept = ('optim_wrapper.optimizer.', 'optim_wrapper.paramwise_cfg', 'param_scheduler.')
    return {name: value for name, value in found.items() if name.startswith(kept)}


def check_and_note(meta: Mapping[str, Any], own: str, world_size: int, state: str) -> list[str]:
    """Refuse a state of other kinds of optimiser and schedules; otherwise what a run is told that goes on from it.

    Args:
        meta: Of the state.
        own: Config of the run, as Python text.
        world_size: Its processes.
        state: Path of the state.

    Raises:
        CheckpointError: See :func:`check_kinds`.
    """
    check_kinds(meta['config'], own, state)
    notes = kept_settings(meta['config'], own)
    if meta['world_size'] != world_size:
        notes.append(
            f'{meta["world_size"]} processes wrote this state and {world_size} go on: the order of samples and what '
            'each looks like stay, dropout and other draws inside the model begin new sequences'
        )
    return notes


def sources_of(settings: Any, place: str = '') -> dict[str, str]:
    """Settings that name weights (``load_from``, ``pretrained…``) and their values, by dotted name."""
    # Only texts: a path. Other values, such as True, name no file that has to be there again.
    found: dict[str, str] = {}
    for name, value in settings.items() if isinstance(settings, Mapping) else ():
        where = f'{place}.{name}' if place else str(name)
        if isinstance(value, str) and (name == 'load_from' or str(name).startswith('pretrained')):
            found[where] = value
        found |= sources_of(value, where)
    return found
