"""Check a whole config without building anything, and list everything that is wrong with it at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject
from mmengine.optim import BaseOptimWrapper, DefaultOptimWrapperConstructor

from internvl_mm import registry
from internvl_mm.engine.runner import Runner
from internvl_mm.utils.errors import ConfigError, did_you_mean

from . import slots
from .signatures import EMPTY, Signature, signature_of, words_of
from .values import Problem, is_part, value_problems

Purpose = Literal['train', 'test', 'read']

# What each purpose opens: a missing file anywhere else is no mistake yet.
_UNUSED: dict[Purpose, tuple[str, ...]] = {
    'train': (),
    'test': ('train_dataloader',),
    'read': ('',),  # begins every setting: reading opens no file
}

# Setting to its least and largest value.
_RANGES: dict[tuple[str, ...], tuple[float, float]] = {
    ('randomness', 'seed'): (0, 2**32 - 1),  # NumPy's
    ('auto_scale_lr', 'base_batch_size'): (1, math.inf),
    ('default_hooks', 'logger', 'interval'): (1, math.inf),
    ('env_cfg', 'dist_cfg', 'timeout'): (1, math.inf),  # seconds
    ('log_processor', 'window_size'): (1, math.inf),
    ('optim_wrapper', 'accumulative_counts'): (1, math.inf),
    ('optim_wrapper', 'optimizer', 'lr'): (0, math.inf),
    ('optim_wrapper', 'optimizer', 'weight_decay'): (0, math.inf),
    ('optim_wrapper', 'optimizer', 'momentum'): (0, math.inf),
    ('optim_wrapper', 'optimizer', 'eps'): (0, math.inf),
}

_DIVISORS = ('step_size', 'T_max', 'periods')  # of schedules


def check_config(cfg: Config, *, purpose: Purpose = 'train') -> None:
    """Check every setting against the signature of what it configures.

    Unknown and missing arguments, values of another type, files that do not exist, parts in the wrong place and
    names of benchmarks are found by reading constructors. A part can say more about itself:

    * ``@classmethod check_config(cls, **arguments) -> list[str]`` gives the problems between its own arguments;
    * ``fills = {'head': ('in_dim',)}`` names arguments it fills into parts given to it, which may then be left out.

    Args:
        cfg: From :func:`load_config`.
        purpose: ``'train'`` and ``'test'`` look for the files that job opens; ``'read'`` looks for none.

    Raises:
        ConfigError: With one line per problem.
    """
    # mmengine's public to_dict would turn imported classes into text.
    settings = resolve(cfg._to_lazy_dict())
    # A config may choose another kind of run, whose constructor then says what can be set.
    runner = settings.get('runner_type') or Runner
    if not (isinstance(runner, type) and issubclass(runner, Runner)):
        raise ConfigError(
            f'{cfg.filename}: runner_type={runner!r} is no kind of runner: name ProbeRunner or leave it out'
        )
    problems = [
        *_call_problems(runner, {key: settings[key] for key in settings if key != 'runner_type'}, ()),
        *_benchmark_problems(settings),
        *_worker_problems(settings),
        *_range_problems(settings),
        *_class_count_problems(settings),
        *_purpose_problems(settings, purpose, runner.training_keys),
    ]
    problems = [
        problem
        for problem in problems
        if not (problem.missing_path and _is_unused(problem, settings, purpose))
    ]
    if problems:
        # a value can be judged both by its argument and by its place: one line is enough
        problems = list({problem.setting: problem for problem in reversed(problems)}.values())[::-1]
        name = cfg.filename or 'config'
        count = f'{len(problems)} problem' + 's' * (len(problems) > 1)
        raise ConfigError('\n  - '.join([f'{name}: {count}', *map(str, problems)]))


def resolve(value: Any) -> Any:
    """Plain dicts and lists, with every lazily imported name replaced by what it names."""
    if isinstance(value, (LazyObject, LazyAttr)):
        return value.build()
    if isinstance(value, dict):
        return {key: resolve(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(resolve(item) for item in value)
    return value


def _walk(
    value: Any, path: slots.Keys, given: frozenset[str] = frozenset(), words: frozenset[str] | None = None
) -> Iterator[Problem]:
    """Problems of everything to be built in a value, however deep.

    Args:
        value: What stands at ``path``.
        path: Keys and indices from the top.
        given: Arguments its owner fills in.
        words: Keys its plain dicts can have, where their reader has a vocabulary.
    """
    # A dict with a type is a part, unless its reader knows type as a plain key: clip_grad=dict(type='norm', ...).
    untyped = slots.untyped_at(path, value)
    if isinstance(value, dict) and is_part(value) and not _takes(untyped, 'type'):
        yield from _part_problems(value, path, given)
    elif isinstance(value, dict) and untyped is not None:
        yield from _call_problems(untyped, value, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            if words is not None and isinstance(key, str) and key not in words:
                hint = did_you_mean(key, words)
                yield Problem(
                    _dotted((*path, key)), f'nothing in mmdet, mmseg or mmcv reads such a key.{hint}'
                )
            yield from _entry_problems(item, (*path, str(key)), words)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _entry_problems(item, (*path, str(index)), words)


def _entry_problems(value: Any, path: slots.Keys, words: frozenset[str] | None) -> Iterator[Problem]:
    """Problems of an entry of a dict or list that is no call by itself."""
    # Entries have no annotation of their own.
    yield from value_problems(_with_class(value), slots.at(slots.WANTED, path) or EMPTY, _dotted(path))
    yield from _walk(value, path, words=words)


def _part_problems(part: dict, path: slots.Keys, given: frozenset[str]) -> Iterator[Problem]:
    target = part['type']
    if isinstance(target, str):
        # Resolved configs and --cfg-options name classes by text.
        found = find_part(target)
        if found is None:
            hint = did_you_mean(target.rpartition('.')[2], _registered())
            yield Problem(_dotted((*path, 'type')), f"no part is called '{target}'.{hint}")
            return
        target = found
    if not callable(target):
        yield Problem(_dotted((*path, 'type')), f'{target!r} is neither a class nor a function')
        return
    # _scope_ is mmengine's: in which registry a text is looked up.
    arguments = {key: value for key, value in part.items() if key not in ('type', '_scope_')}
    problems = list(_call_problems(target, arguments, path, given))
    yield from problems
    # Only after its arguments fit, so that it may rely on them; files may be missing yet.
    check = getattr(target, 'check_config', None)
    if callable(check) and all(problem.missing_path for problem in problems):
        yield from (Problem(_dotted(path), text) for text in check(**arguments))


def _call_problems(
    target: Callable, arguments: dict[str, Any], path: slots.Keys, given: frozenset[str] = frozenset()
) -> Iterator[Problem]:
    """Compare the keys and values of one dict with the signature of what they will be given to."""
    signature = signature_of(target)
    taken = {key: kind for entry in slots.of(slots.TAKEN, target) for key, kind in entry.items()}
    # By the class: every optimiser gets its parameters from the builder.
    given = given.union(*slots.of(slots.GIVEN, target))
    fills = getattr(target, 'fills', {})
    options = {key: kind for entry in slots.of(slots.OPTIONS, target) for key, kind in entry.items()}
    allowed = sorted({*signature.arguments, *taken} - given)
    for key, value in arguments.items():
        here = (*path, str(key))
        if key in taken:
            yield from value_problems(value, taken[key], _dotted(here))
        elif key in signature.arguments:
            yield from _argument_problems(signature, key, value, here)
        elif not signature.open or did_you_mean(
            key, allowed
        ):  # where anything goes, a misspelling still does not
            yield _unknown(target, key, allowed, here)
            continue
        if isinstance(value, dict) and key in options:
            yield from _call_problems(options[key], value, here)
        elif key in slots.PARTS and isinstance(value, dict) and not is_part(value):
            yield Problem(_dotted(here), "no 'type' in it: write dict(type=<class>, ...)")
        else:
            yield from _walk(value, here, frozenset(fills.get(key, ())), words_of(target))
    if isinstance(target, type) and issubclass(target, BaseOptimWrapper):
        yield from _group_problems(arguments, path)
    for name in signature.arguments:  # in the order of the signature
        if name in signature.required - given - arguments.keys():
            yield Problem(_dotted((*path, name)), f'missing, and {_called(target)} needs it')


def _group_problems(wrapper: dict[str, Any], path: slots.Keys) -> Iterator[Problem]:
    """Problems of ``constructor`` and ``paramwise_cfg``, which stand beside each other in ``optim_wrapper``."""
    constructor, groups = wrapper.get('constructor'), wrapper.get('paramwise_cfg')
    if constructor not in (None, DefaultOptimWrapperConstructor):
        # As mmengine calls it: with the wrapper's settings, and with what stands beside it in the config.
        part = dict(type=constructor, optim_wrapper_cfg={}, paramwise_cfg=groups)
        yield from _part_problems(part, (*path, 'constructor'), frozenset())
    elif isinstance(groups, dict):
        yield from _call_problems(slots.ParameterGroups, groups, (*path, 'paramwise_cfg'))


def _argument_problems(signature: Signature, key: str, value: Any, path: slots.Keys) -> Iterator[Problem]:
    argument = signature.arguments[key]
    if argument.default is not EMPTY and type(value) is type(argument.default) and value == argument.default:
        return  # many libraries write `x: int = None`
    value = _with_class(value)
    wanted = slots.at(slots.WANTED, path)
    yield from value_problems(value, argument.annotation if wanted is None else wanted, _dotted(path))


def _unknown(target: Callable, key: str, allowed: list[str], path: slots.Keys) -> Problem:
    if isinstance(target, type) and issubclass(target, Runner):
        what = 'not a setting of a run (names that only help to write the file begin with an underscore)'
    else:
        what = f'not an argument of {_called(target)}'
    hint = did_you_mean(key, allowed)
    return Problem(_dotted(path), f'{what}.{hint or " Allowed: " + ", ".join(allowed)}')


def _benchmark_problems(settings: dict[str, Any]) -> Iterator[Problem]:
    benchmarks = settings.get('benchmarks')
    # Another type was told by the annotation of the runner's argument.
    if not isinstance(benchmarks, dict):
        benchmarks = {}
    for key in ('val_benchmarks', 'test_benchmarks'):
        chosen = settings.get(key)
        for index, name in enumerate(chosen if isinstance(chosen, (list, tuple)) else ()):
            if isinstance(name, str) and name not in benchmarks:
                hint = did_you_mean(name, benchmarks) or f' Allowed: {", ".join(benchmarks) or "none"}'
                yield Problem(f'{key}.{index}', f"there is no benchmark '{name}' in benchmarks.{hint}")


def _worker_problems(settings: dict[str, Any]) -> Iterator[Problem]:
    """What torch's ``DataLoader`` refuses when it is built, which is after the model was."""
    benchmarks = settings.get('benchmarks')
    places = (
        {('benchmarks', name, 'dataloader') for name in benchmarks} if isinstance(benchmarks, dict) else set()
    )
    for place in (('train_dataloader',), *sorted(places)):
        loader = _look_up(settings, *place)
        if not isinstance(loader, dict):
            continue
        for key, least in (('num_workers', 0), ('batch_size', 1), ('timeout', 0)):
            value = loader.get(key)
            if isinstance(value, (int, float)) and value < least:
                yield Problem(_dotted((*place, key)), f'{value}, and the least is {least}')
        for key in ('persistent_workers', 'prefetch_factor', 'timeout'):
            if loader.get(key) and not loader.get('num_workers'):
                text = (
                    f'{loader[key]} is for worker processes, and num_workers is 0: leave it out or have some'
                )
                yield Problem(_dotted((*place, key)), text)


def _range_problems(settings: dict[str, Any]) -> Iterator[Problem]:
    """Numbers that torch, NumPy and mmengine refuse when the run is built, in words of their own."""
    for place, (least, most) in _RANGES.items():
        value = _look_up(settings, *place)
        if isinstance(value, (int, float)) and not least <= value <= most:
            edge = f'the most is {most}' if value > most else f'the least is {least}'
            yield Problem(_dotted(place), f'{value}, and {edge}')
    schedules = settings.get('param_scheduler') or ()
    # Lengths mmengine divides by, at a step long after the first.
    for number, schedule in enumerate(schedules if isinstance(schedules, (list, tuple)) else [schedules]):
        for name in _DIVISORS:
            value = _look_up(schedule, name)
            for length in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(length, (int, float)) and not length >= 1:
                    yield Problem(f'param_scheduler.{number}.{name}', f'{length}, and the least is 1')


def _class_count_problems(settings: dict[str, Any]) -> Iterator[Problem]:
    """Head and data of different numbers of classes, where the config states both."""
    classes = _look_up(settings, 'model', 'head', 'num_classes')
    data = {'train_dataloader.dataset': _look_up(settings, 'train_dataloader', 'dataset', 'num_classes')}
    # The run's own or the model's: a config has the mixing of a batch in either.
    for place in (('data_preprocessor', 'batch_augment'), ('model', 'data_preprocessor', 'batch_augment')):
        data['.'.join(place)] = _look_up(settings, *place, 'num_classes')
    benchmarks = settings.get('benchmarks')
    for name, benchmark in benchmarks.items() if isinstance(benchmarks, dict) else ():
        metrics = _look_up(benchmark, 'metrics')
        metrics = metrics if isinstance(metrics, (list, tuple)) else ()
        if not any(
            is_part(metric) and metric.get('class_subset') for metric in metrics
        ):  # a subset of the head's classes is scored: other numbers are right
            data[f'benchmarks.{name}.dataloader.dataset'] = _look_up(
                benchmark, 'dataloader', 'dataset', 'num_classes'
            )
    for owner, stated in data.items():
        # A head of 0 classes or fewer has no linear layer, and fits any data.
        if isinstance(stated, int) and isinstance(classes, int) and 0 < classes != stated:
            text = f'{stated}, but model.head.num_classes={classes}: head and data must agree'
            yield Problem(f'{owner}.num_classes', text)


def _look_up(settings: Any, *keys: str) -> Any:
    for key in keys:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings


def _purpose_problems(
    settings: dict[str, Any], purpose: Purpose, training_keys: tuple[str, ...]
) -> Iterator[Problem]:
    needed = {
        'train': training_keys,
        'test': ('benchmarks',),
        'read': (),
    }
    for key in needed[purpose]:
        if not settings.get(key):
            yield Problem(key, f'missing, and a config to {purpose} needs it')


def _is_unused(problem: Problem, settings: dict[str, Any], purpose: Purpose) -> bool:
    unused = list(_UNUSED[purpose])
    # Benchmarks that are not chosen open no file; left out, the setting chooses all.
    chosen = settings.get({'train': 'val_benchmarks', 'test': 'test_benchmarks', 'read': ''}[purpose])
    benchmarks = settings.get('benchmarks')
    if isinstance(chosen, (list, tuple)) and isinstance(benchmarks, dict):
        unused += [f'benchmarks.{name}.' for name in benchmarks if name not in chosen]
    return any(problem.setting.startswith(prefix) for prefix in unused)


def find_part(name: str) -> Any:
    """A part by its registered name, from our registries or the ones they inherit from; ``None`` if there is none."""
    for candidate in vars(registry).values():
        if isinstance(candidate, registry.Registry) and candidate.scope == registry.SCOPE:
            found = candidate.get(name)
            if found is not None:
                return found
    return None


def _registered() -> list[str]:
    registries = [entry for entry in vars(registry).values() if isinstance(entry, registry.Registry)]
    return [name for entry in registries for name in entry.module_dict]


def _with_class(value: Any) -> Any:
    """A part named by text, with its class in place of the name; anything else as it is."""
    if is_part(value) and isinstance(value['type'], str):
        return {**value, 'type': find_part(value['type']) or value['type']}
    return value


def _takes(target: Callable | None, key: str) -> bool:
    return target is not None and any(key in entry for entry in slots.of(slots.TAKEN, target))


def _dotted(path: slots.Keys) -> str:
    return '.'.join(path)


def _called(target: Callable) -> str:
    return getattr(target, '__name__', str(target))
