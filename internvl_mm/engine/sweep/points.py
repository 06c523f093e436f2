"""Points of a sweep: a leaf config and the settings that replace its own."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from internvl_mm.engine.config import check_config, load_config
from internvl_mm.engine.config.loading import config_root
from internvl_mm.engine.settings import config_hash, named
from internvl_mm.utils.errors import ConfigError, did_you_mean

# Short names of what is swept most, and the settings they stand for. Other settings go by their dotted names.
SHORT = {
    'optim.lr': 'optim_wrapper.optimizer.lr',
    'optim.weight_decay': 'optim_wrapper.optimizer.weight_decay',
    'batch_size': 'train_dataloader.batch_size',
    'epochs': 'train_cfg.max_epochs',
    'iterations': 'train_cfg.max_iters',
    'seed': 'randomness.seed',
}
# Short names of how long to train: the setting, and whether schedules count it in epochs.
LENGTHS = {'epochs': ('max_epochs', True), 'iterations': ('max_iters', False)}
BACKBONE = 'backbone'  # a file configs/_base_/models/intern_vit_<name>.py, whose sizes replace the leaf's
_HYDRAS = ('config=', 'sweep.', 'hydra.', 'hydra/', '+', '~')  # words Hydra knows as they are
_KEPT = ('type', 'pretrained')  # of the leaf's backbone


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
        config: The leaf config.
        settings: ``key=value`` as the user wrote them, short names included.
    """

    config: str
    settings: tuple[str, ...] = ()

    @classmethod
    def parse(cls, overrides: Iterable[str]) -> Point:
        """The point of Hydra's overrides, one of which is ``config=...``.

        Raises:
            ConfigError: None of them names the config.
        """
        # The plus sign is for Hydra alone (see appended).
        pairs = [override.lstrip('+') for override in overrides]
        leaves = [pair.partition('=')[2] for pair in pairs if pair.startswith('config=')]
        if not leaves:
            raise ConfigError('a sweep needs config=NAME, the leaf config whose settings are varied')
        kept = (pair for pair in pairs if not pair.startswith(('config=', 'hydra.', 'hydra/', 'sweep.')))
        # The last, as with every setting: a line of sweep.file may name another leaf than the command line.
        return cls(leaves[-1], tuple(kept))

    @property
    def values(self) -> dict[str, str]:
        """Setting to value, as the user wrote them; the leaf is one of them."""
        return {'config': self.config, **dict(pair.split('=', 1) for pair in self.settings)}

    @property
    def options(self) -> list[str]:
        """Arguments of ``--cfg-options``, short names written out."""
        # First what follows from a length, so that an end the user writes replaces it.
        ends = [option for pair in self.settings for option in _ends(self.config, pair)]
        return [*ends, *(option for pair in self.settings for option in resolve(pair))]

    def check(self, metric: str | None = None) -> str:
        """Load and check the config of the point; return its hash, by which its run is found again.

        Args:
            metric: ``<benchmark>/<metric>`` that is going to decide.

        Raises:
            ConfigError: The leaf or a setting is wrong, or the metric is of no benchmark.
        """
        cfg = load_config(self.config, self.options)
        check_config(cfg)
        known = list(cfg.get('benchmarks') or ())
        # What a benchmark measures is known once it has run.
        if metric is not None and metric.split('/')[0] not in known:
            raise ConfigError(
                f'sweep.metric={metric} begins with no benchmark of {self.config}; it has: {", ".join(known)}.'
                + did_you_mean(metric.split('/')[0], known)
            )
        # Of the resolved settings, so that 1e-3 and 0.001, or a leaf and its copy, are one run.
        return config_hash(named(cfg.to_dict()))


def resolve(pair: str) -> list[str]:
    """Write out a short name: ``optim.lr=1`` is one option, ``backbone=tiny`` is one for every size.

    Raises:
        ConfigError: There is no backbone of that name.
    """
    key, _, value = pair.partition('=')
    # A backbone is several sizes at once.
    if key != BACKBONE:
        return [f'{SHORT.get(key, key)}={_option(pair)}']
    folder = config_root() / '_base_' / 'models'
    known = {file.stem.removeprefix('intern_vit_'): file for file in sorted(folder.glob('intern_vit_*.py'))}
    if value not in known:
        raise ConfigError(
            f'backbone={value}: there is no such backbone in {folder}; there are {", ".join(known)}.'
            + did_you_mean(value, known)
        )
    # Sizes alone: the leaf keeps its class, its weights and what it adds, such as tapped blocks.
    sizes = load_config(str(known[value])).backbone
    return [f'model.backbone.{name}={size}' for name, size in sizes.items() if name not in _KEPT]


def _option(pair: str) -> str:
    """The value of an override as ``--cfg-options`` reads it, which knows no null, no escapes and no inner quotes."""
    try:
        value = OverridesParser.create().parse_override(pair).value()
    except HydraException as error:
        raise ConfigError(f'a setting of the sweep cannot be read: {error}') from error
    # Numbers stay as the user wrote them, for the command that is shown.
    return (
        _written(value)
        if value is None or isinstance(value, (str, QuotedString, list))
        else pair.partition('=')[2]
    )


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f'[{",".join(map(_written, value))}]'
    return value.text if isinstance(value, QuotedString) else str(value)


def _ends(config: str, pair: str) -> list[str]:
    """Ends of the schedules that end with the training of the leaf, moved to where a new length ends.

    Without them a shorter run would stop at a high learning rate, and lengths would be compared by that.
    """
    key, _, value = pair.partition('=')
    if key not in LENGTHS:
        return []
    length, by_epoch = LENGTHS[key]
    leaf = load_config(config)
    whole = (leaf.get('train_cfg') or {}).get(length)
    schedules = leaf.get('param_scheduler') or []
    if isinstance(schedules, dict):
        places = {'param_scheduler': schedules}
    else:
        places = {f'param_scheduler.{order}': schedule for order, schedule in enumerate(schedules)}
    return [
        f'{place}.end={value}'
        for place, schedule in places.items()
        # mmengine counts epochs unless told otherwise.
        if whole is not None and schedule.get('end') == whole and schedule.get('by_epoch', True) is by_epoch
    ]


def expand(
    arguments: Sequence[str], *, file: str | None = None, sample: int | None = None, seed: int = 0
) -> list[list[str]]:
    """All points of a sweep, as lists of Hydra overrides.

    Args:
        arguments: Hydra overrides; values with commas, ``range(...)`` or ``choice(...)`` span a grid.
        file: Instead of (or in addition to) a grid: a text file with the settings of one point per line.
        sample: Draw so many points of the grid at random.
        seed: Of the draw.

    Raises:
        ConfigError: The file is missing or empty, an override cannot be read, or spans no finite grid.
    """
    # Without a file there is one empty line: the grid alone.
    lines = [line.split() for line in _lines(file)] if file else [[]]
    # A line comes after the command line, which thereby gives what all points share. Commas span a grid there, too.
    grids = [_grid([*arguments, *appended(line)]) for line in lines]
    points = [point for grid in grids for point in grid]
    if sample is not None and sample < len(points):
        # In the order of the grid, so that the table reads like one.
        chosen = sorted(random.Random(seed).sample(range(len(points)), sample))
        points = [points[index] for index in chosen]
    return points


def appended(pairs: Iterable[str]) -> list[str]:
    """Hydra takes a key that its own config does not have only behind a plus sign."""
    return [pair if pair.startswith(_HYDRAS) else f'+{pair}' for pair in pairs]


def _grid(arguments: Sequence[str]) -> list[list[str]]:
    try:
        overrides = OverridesParser.create().parse_overrides(list(arguments))
    except HydraException as error:
        raise ConfigError(f'a setting of the sweep cannot be read: {error}') from error
    return [list(point) for point in itertools.product(*(_choices(override) for override in overrides))]


def _choices(override: Override) -> list[str]:
    key = override.get_key_element()
    # Values with blanks or brackets keep Hydra's quoting; it parses them again.
    if not override.is_sweep_override():
        return [f'{key}={override.get_value_element_as_str()}']
    if not override.is_discrete_sweep():
        raise ConfigError(
            f'{override.input_line}: an interval has no points of its own; list values (1e-4,3e-4), or let a sweeper '
            'choose them (hydra/sweeper=optuna)'
        )
    return [f'{key}={value}' for value in override.sweep_string_iterator()]


def _lines(file: str) -> list[str]:
    try:
        text = Path(file).read_text('utf-8')
    except OSError as error:
        raise ConfigError(f'sweep.file={file} cannot be read ({error.strerror})') from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith('#')]
    if not lines:
        raise ConfigError(f'sweep.file={file} has no points: write the settings of one point per line')
    return lines


def swept(points: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the settings in which points differ, in the order they were first given.

    Left out is what only some leaves have, always with one value, as the path under which a leaf of another structure
    keeps its weights: the leaf tells as much.
    """
    names = dict.fromkeys(name for values in points for name in values)
    varied = [name for name in names if len({values.get(name) for values in points}) > 1]
    return [name for name in varied if 'config' not in varied or not _follows(name, points)]


def _follows(name: str, points: Sequence[dict[str, Any]]) -> bool:
    """Whether a setting has one value where it is given at all, and is given by all points of a leaf or by none."""
    given = {values[name] for values in points if name in values}
    leaves = {(values.get('config'), name in values) for values in points}
    return name != 'config' and len(given) == 1 and len(leaves) == len({leaf for leaf, _ in leaves})
