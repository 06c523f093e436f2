"""From a name on the command line to a config whose imports all resolve."""

from __future__ import annotations

import importlib
import pkgutil
import re
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.config.lazy import LazyAttr, LazyObject

import internvl_mm
from internvl_mm.utils.errors import ConfigError, did_you_mean

from .source import scan_config

# What running a user's config, or importing the modules it names, can raise.
_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)

# Stands for a blank while mmengine reads a value and drops all others; no argument of a command can hold it.
_BLANK = '\0'


def config_root() -> Path:
    """The folder of the shipped configs: inside an installed package, or beside it in a checkout."""
    package = Path(internvl_mm.__file__).parent
    installed = package / 'configs'
    return installed if installed.is_dir() else package.parent / 'configs'


def load_config(path: str, overrides: Sequence[str] = ()) -> Config:
    """Load an import-style config; every class and function it names has been imported when this returns.

    Args:
        path: A file, or the name of a shipped config such as ``quickstart/finetune_intern_vit_tiny_digits.py``.
        overrides: ``key=value`` pairs with dotted keys (lists by index: ``custom_hooks.0.interval=5``).

    Returns:
        The settings. Names that only helped to write the file are left out: imports, and ``_names`` with a leading
        underscore.

    Raises:
        ConfigError: The file is missing, cannot run, names something that does not exist, or an override does not
            fit its structure.
    """
    file = _find(path)
    # What the text alone tells, before any of it runs.
    source = scan_config(file)
    try:
        loaded = Config.fromfile(file, lazy_import=True)
    except _FAULTS as error:
        raise ConfigError(_explain(error, file, source.files)) from error
    # _to_lazy_dict leaves imported names out and keeps classes unimported; mmengine has no public way to do both
    settings = {key: value for key, value in loaded._to_lazy_dict().items() if not key.startswith('_')}
    for setting, lazy, container in _lazy_values(settings, ''):
        _import(lazy, setting)
        if not isinstance(container, dict):
            raise ConfigError(
                f'{setting}={lazy} ({lazy.location}): mmengine does not import names inside a list: '
                f'write dict(type={lazy})'
            )
    cfg = Config(settings, filename=str(file), format_python_code=False)
    _override(cfg, overrides)
    return cfg


def set_option(cfg: Config, key: str, value: Any) -> None:
    """Set a dotted key, creating the levels in between; ``None`` leaves the config as it is."""
    if value is not None:
        cfg.merge_from_dict({key: value})


def _find(path: str) -> Path:
    root = config_root()
    # The user's own file wins over a shipped one of that name.
    for candidate in (Path(path), root / path, root / f'{path}.py'):
        if candidate.is_file() and candidate.suffix == '.py':
            return candidate.resolve()
    if Path(path).is_file():
        raise ConfigError(f'{path}: configs are Python files with import-style inheritance (.py)')
    shipped = [
        str(file.relative_to(root))
        for file in sorted(root.rglob('*.py'))
        # Parts to inherit from are no configs of their own.
        if '_base_' not in file.parts and file.name != '__init__.py'
    ]
    wanted = path if path.endswith('.py') else f'{path}.py'
    same_name = [name for name in shipped if Path(name).name == Path(wanted).name]
    hint = f" Did you mean '{same_name[0]}'?" if same_name else did_you_mean(wanted, shipped)
    raise ConfigError(
        f'config {path} was found neither from {Path.cwd()} nor among the shipped ones in {root}.{hint}'
    )


def _explain(error: BaseException, file: Path, sources: set[Path]) -> str:
    """Where in the user's files an error came from, and what it says."""
    frames = traceback.extract_tb(error.__traceback__)
    # The innermost frame in a config; below it is mmengine or a library.
    frame = next((frame for frame in reversed(frames) if Path(frame.filename).resolve() in sources), None)
    where = f'{frame.filename}:{frame.lineno}' if frame else str(file)
    line = f'\n  {frame.line}' if frame and frame.line else ''
    if isinstance(error, RuntimeError) and not error.args:
        # mmengine's placeholder for an import refuses to be called, without a word
        return f'{where}: a config names classes and does not call them: write dict(type=Name, ...).{line}'
    return f'{where}: {type(error).__name__}: {error}{line}'


def _lazy_values(value: Any, setting: str, container: Any = None) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(value, (LazyObject, LazyAttr)):
        yield setting, value, container
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _lazy_values(item, f'{setting}.{key}' if setting else str(key), value)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _lazy_values(item, f'{setting}.{index}', value)


def _import(lazy: LazyObject | LazyAttr, setting: str) -> None:
    try:
        lazy.build()
    except _FAULTS as error:
        # An attribute (torch.optim.SGD) has no place of its own, but that of the import before its dot.
        place = lazy.location or (lazy.source.location if isinstance(lazy, LazyAttr) else None) or 'override'
        # mmengine writes '<file>, line 3'; terminals and editors open '<file>:3'.
        where = str(place).replace(', line ', ':')
        raise ConfigError(f'{where}: {setting}: {_import_fault(lazy, error)}') from error


def _import_fault(lazy: LazyObject | LazyAttr, error: BaseException) -> str:
    name = str(lazy)
    try:
        # Again, by itself: a module that is missing and a name that is missing in it have different ways out.
        module = importlib.import_module(lazy.module)
    except ModuleNotFoundError as fault:
        if fault.name and not f'{lazy.module}.'.startswith(f'{fault.name}.'):
            # The module is there, and something that it imports is not.
            return f"importing {lazy.module} failed: there is no module '{fault.name}'"
        package, missing = _first_missing(lazy.module)
        siblings = [module.name for module in pkgutil.iter_modules(package.__path__)] if package else []
        inside = f' in {package.__name__}' if package else ''
        return f"there is no module '{missing}'{inside}.{did_you_mean(missing, siblings)}"
    except _FAULTS:
        return f'importing {lazy.module} failed: {error}'
    return f"'{name}' is not in {lazy.module}.{did_you_mean(name, dir(module))}"


def _first_missing(dotted: str) -> tuple[Any, str]:
    """The deepest package of a dotted name that imports, and the part after it that does not."""
    package = None
    parts = dotted.split('.')
    for depth, part in enumerate(parts):
        try:
            package = importlib.import_module('.'.join(parts[: depth + 1]))
        except ModuleNotFoundError:
            return package, part
    return package, parts[-1]


def _override(cfg: Config, overrides: Sequence[str]) -> None:
    for pair in overrides:
        key, equals, value = pair.partition('=')
        if not (equals and key and all(key.split('.'))):
            raise ConfigError(f"option '{pair}' is not of the form key=value (train_dataloader.batch_size=8)")
        try:
            options = {key: _read_value(value)}
        except AssertionError as error:
            raise ConfigError(f"option '{pair}': the value cannot be read: {error}") from error
        except RecursionError as error:
            # mmengine's reader calls itself for ever on brackets inside words, as in dict(...).
            raise ConfigError(
                f"option '{pair}': the value cannot be read: options hold numbers, words, and lists or tuples of them; "
                'set what a dict holds key by key (default_hooks.ema.type=EMAHook)'
            ) from error
        try:
            cfg.merge_from_dict(options)
        # What mmengine raises where a key leads into a plain value, or to an index that a list has not.
        except (AttributeError, TypeError, LookupError) as error:
            raise ConfigError(f"option '{pair}' does not fit the config: {_misfit(cfg, key)}") from error


def _read_value(text: str) -> Any:
    """A value in mmengine's grammar (lists, tuples, quotes), which its users know; blanks inside a word stay."""
    # Blanks at the ends of items say nothing, and would hide their quotes and brackets from mmengine.
    text = re.sub(r'(^|[,(\[])\s+', r'\1', re.sub(r'\s+($|[,)\]])', r'\1', text))
    options = Namespace()
    DictAction([], dest='options')(ArgumentParser(), options, [f'value={text.replace(" ", _BLANK)}'])
    return _with_blanks(options.options['value'])


def _with_blanks(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_with_blanks, value))
    # Again, for numbers with blanks inside their quotes.
    return DictAction._parse_int_float_bool(value.replace(_BLANK, ' ')) if isinstance(value, str) else value


def _misfit(cfg: Any, key: str) -> str:
    """Which level of a dotted key cannot be entered, and why."""
    passed: list[str] = []
    value = cfg
    for part in key.split('.'):
        if isinstance(value, (list, tuple)):
            if not (part.isdigit() and int(part) < len(value)):
                return f"{'.'.join(passed)} is a list of {len(value)}: '{part}' must be an index from 0"
            value = value[int(part)]
        elif isinstance(value, (dict, Config)):
            if part not in value:
                break
            value = value[part]
        else:
            return f"{'.'.join(passed)} is {value!r}, which has no '{part}' inside"
        passed.append(part)
    return f'{".".join(passed)} holds {type(value).__name__}, which cannot be replaced that way'
