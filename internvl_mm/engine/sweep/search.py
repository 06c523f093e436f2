"""The next point chosen by the results so far: Optuna asks, a run answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException

from internvl_mm.utils.errors import ConfigError

Run = Callable[[list[str]], float | None]  # overrides of a point to the number that decides


def search(words: Sequence[str], run: Run, *, trials: int, seed: int = 0, less: bool = False) -> float | None:
    """Run points that a tree-structured Parzen estimator proposes, one after the other.

    The same words and seed propose the same points as long as the results are the same, so that a search that was
    interrupted goes on: what finished is not run again.

    Args:
        words: Hydra overrides; ``interval(a,b)`` is a range of numbers, ``tag(log,interval(a,b))`` one whose logarithm
            is searched, lists and ``range(...)`` are sets.
        run: Runs a point; ``None`` when it failed.
        trials: How many points.
        seed: Of the proposals.
        less: Smaller is better.

    Returns:
        The best number.

    Raises:
        ConfigError: Optuna is not installed, there is nothing to choose, or a range has no numbers.

    Source: Akiba et al. 2019, "Optuna" (arXiv 1907.10902), ask-and-tell interface.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "hydra/sweeper=optuna needs Optuna: pip install 'internvl_mm[sweeps]' (or optuna), or sweep.sample=N"
        ) from error
    fixed, free = _parted(words)
    # Its own log would stand between our progress lines.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction='minimize' if less else 'maximize', sampler=optuna.samplers.TPESampler(seed=seed)
    )
    # Ask and tell from here, not study.optimize: points stay ours to check, launch and find again.
    for _ in range(trials):
        # Ask and tell: the run happens in a launcher's process, so Optuna cannot call it.
        trial = study.ask()
        value = run([*fixed, *(f'{key}={_suggest(trial, key, override)}' for key, override in free.items())])
        # A failure says nothing about its neighbours: the estimator leaves it out.
        state = optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE
        study.tell(trial, value, state=state)
    done = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    return study.best_value if done else None


def _parted(words: Sequence[str]) -> tuple[list[str], dict[str, Override]]:
    try:
        overrides = OverridesParser.create().parse_overrides(list(words))
    except HydraException as error:
        raise ConfigError(f'a setting of the sweep cannot be read: {error}') from error
    free = {override.get_key_element(): override for override in overrides if override.is_sweep_override()}
    if not free:
        raise ConfigError(
            'hydra/sweeper=optuna has nothing to choose: give a setting a range, as optim.lr=interval(1e-4,1e-2), or '
            'values'
        )
    kept = [override for override in overrides if not override.is_sweep_override()]
    return [f'{one.get_key_element()}={one.get_value_element_as_str()}' for one in kept], free


def _suggest(trial: Any, key: str, override: Override) -> Any:
    sweep = override.value()
    # The log tag is Hydra's; its own Optuna plugin reads intervals the same way.
    if isinstance(sweep, IntervalSweep):
        # tag(log, interval(1e-5, 1e-2)): even on a logarithmic scale, as rates are searched.
        try:
            return trial.suggest_float(key, sweep.start, sweep.end, log='log' in sweep.tags)
        except ValueError as error:  # ends in the wrong order, or no logarithm
            raise ConfigError(f'{override.input_line}: {error}') from error
    return trial.suggest_categorical(key, list(override.sweep_string_iterator()))
