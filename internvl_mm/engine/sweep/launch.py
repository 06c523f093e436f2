"""The sweep as Hydra sees it: its settings, its points, and the task it launches for each.

Hydra brings the grammar of values, the launchers (one after the other, joblib, Slurm by submitit, Ray) and further
sweepers (Optuna); each point is still a run of ``tools/train.py`` of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize
from hydra._internal.callbacks import Callbacks
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from internvl_mm.utils.console import console, track
from internvl_mm.utils.errors import ConfigError

from .points import Point, appended, expand
from .run import PointState, run_point
from .search import search
from .table import results_of

SEARCH = 'hydra/sweeper=optuna'  # our own part: the plugin of this name knows Optuna 2 alone
# Hydra's launchers beside the basic one, and what each comes with.
LAUNCHERS = dict(joblib='hydra-joblib-launcher', submitit='hydra-submitit-launcher', ray='hydra-ray-launcher')


@dataclass
class SweepSettings:
    """What ``sweep.*`` on the command line sets.

    Attributes:
        file: A file with the settings of one point per line.
        sample: Draw so many points of the grid at random.
        trials: Points of a search (``hydra/sweeper=optuna``).
        seed: Of the draw or the search.
        retries: How often a failed point is tried again.
        metric: Which number decides what is best, ``<benchmark>/<metric>``; the first of the results by default.
        less: Smaller is better.
        train: The training command before its arguments.
    """

    # Hydra checks their types; see _check_counts for their ranges.
    file: str | None = None
    sample: int | None = None
    trials: int = 20
    seed: int = 0
    retries: int = 1
    metric: str | None = None
    less: bool = False
    train: list[str] = field(default_factory=list)


def metric_of(state: PointState, name: str | None) -> float | None:
    """The number that decides, of a finished point.

    Raises:
        ConfigError: The run has no metric of that name.
    """
    results = results_of(state)
    if not results:
        return None
    if name is not None and name not in results:
        raise ConfigError(f'sweep.metric={name} is not measured; measured are: {", ".join(results)}')
    return results[name or next(iter(results))].value


def task(cfg: DictConfig) -> float | None:
    """Run the point Hydra launched; its metric goes back to sweepers that choose the next points by it."""
    # In joblib and Slurm this is another process: all it knows is in the config Hydra composed for the point.
    facts, settings = HydraConfig.get(), cfg.sweep
    point = Point.parse(facts.overrides.task)
    state = run_point(
        point,
        Path(facts.sweep.dir),
        train=list(settings.train),
        number=facts.job.num,
        retries=settings.retries,
    )
    return metric_of(state, settings.metric)


def launch(arguments: Sequence[str], root: Path, *, train: Sequence[str]) -> SweepSettings:
    """Check all points of a sweep, then run them.

    Args:
        arguments: Words of the command line: ``config=LEAF``, settings, ``sweep.*``, ``hydra/...``.
        root: Folder of the sweep, absolute.
        train: The training command before its arguments.

    Returns:
        What ``sweep.*`` was set to.

    Raises:
        ConfigError: A setting is wrong; nothing was started.
    """
    _declare(root, train)
    # Settings of the leaf are unknown to Hydra's own config, which holds sweep.* alone.
    words = appended(arguments)
    # Ours stands in for the plugin of that name, so Hydra must not see the word.
    searching = SEARCH in words
    words = [word for word in words if word != SEARCH]
    own = [word for word in words if word.startswith(('sweep.', 'hydra.', 'hydra/'))]
    check_plugins(own)
    try:
        # No folder of configs: leaves are loaded by our own loader, and Hydra sees only the node of _declare.
        with initialize(version_base='1.3', config_path=None):
            config = compose('sweep', own, return_hydra_config=True)
            settings = cast(SweepSettings, OmegaConf.to_object(config.sweep))
            _check_counts(settings)
            parts: dict[str, Any] = dict(
                hydra_context=HydraContext(GlobalHydra.instance().config_loader(), Callbacks()),
                task_function=task,
                config=config,
            )
            if searching:
                _search(words, parts, settings)
                return settings
            if any(word.startswith('hydra/sweeper=') for word in own):
                # Of a plugin: it chooses points as it goes; each is checked before it runs.
                Plugins.instance().instantiate_sweeper(**parts).sweep(words)
                return settings
            # Not by Hydra's basic sweeper: it would start the first points before it has seen the last.
            points = checked(words, settings)
            results = Plugins.instance().instantiate_launcher(**parts).launch(points, initial_job_idx=0)
    except HydraException as error:
        # A value of another type is told by the error behind.
        reason = f' ({error.__cause__})' if error.__cause__ else ''
        raise ConfigError(
            f'{error}{reason}\nA sweep is config=LEAF and settings such as optim.lr=1e-4,3e-4'
        ) from error
    for result in results:
        # Asking for the value raises what a point raised, as Ctrl-C or a mistake.
        _ = result.return_value
    return settings


def _check_counts(settings: SweepSettings) -> None:
    least = dict(sample=1, trials=1, retries=0)
    for name, fewest in least.items():
        value = getattr(settings, name)
        if value is not None and value < fewest:
            raise ConfigError(f'sweep.{name}={value}, and the least is {fewest}')


def _search(words: Sequence[str], parts: dict[str, Any], settings: SweepSettings) -> None:
    """Points one after the other, each started by the launcher."""
    numbers = itertools.count()  # of jobs, by which their folders are called

    def run(point: list[str]) -> float | None:
        # Names and types before anything starts; the values lie within the ranges that were given.
        Point.parse(point).check(settings.metric)
        launcher = Plugins.instance().instantiate_launcher(**parts)
        (result,) = launcher.launch([point], initial_job_idx=next(numbers))
        return result.return_value

    given = [word for word in words if not word.startswith(('sweep.', 'hydra.', 'hydra/'))]
    search(given, run, trials=settings.trials, seed=settings.seed, less=settings.less)


def check_plugins(words: Sequence[str]) -> None:
    """Say which package a launcher comes with, where it is not installed.

    Raises:
        ConfigError: It is not.
    """
    for word in words:
        name = word.removeprefix('hydra/launcher=').partition('_')[0]
        package = LAUNCHERS.get(name) if word.startswith('hydra/launcher=') else None
        if package is not None and not _is_installed(package):
            raise ConfigError(
                f'{word} needs {package}: pip install {package}, or leave it out to run one point after the other'
            )


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def checked(words: Sequence[str], settings: SweepSettings) -> list[list[str]]:
    """All points whose configs differ, every one loaded and checked.

    Raises:
        ConfigError: One of them is wrong; says which.
    """
    points = expand(words, file=settings.file, sample=settings.sample, seed=settings.seed)
    # By hash, since two points of one hash would train in one folder, perhaps at the same time.
    unique: dict[str, list[str]] = {}
    for overrides in track(points, 'checking points'):
        unique.setdefault(Point.parse(overrides).check(settings.metric), overrides)
    if left_out := len(points) - len(unique):
        console.print(f'{left_out} of {len(points)} points are the same run as another one and are left out')
    return list(unique.values())


def _declare(root: Path, train: Sequence[str]) -> None:
    """Tell Hydra the settings of a sweep; those of the leaf are open, since each point checks its own."""
    defaults = ['_self_', {'override hydra/job_logging': 'none'}, {'override hydra/hydra_logging': 'none'}]
    # Runs keep their own folders and logs; Hydra's would be a second set, of which only empty folders would be left.
    own = dict(sweep=dict(dir=str(root), subdir='.'), output_subdir=None)
    node = dict(defaults=defaults, config='???', sweep=SweepSettings(train=list(train)), hydra=own)
    ConfigStore.instance().store(name='sweep', node=node)
