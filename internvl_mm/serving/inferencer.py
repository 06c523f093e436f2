"""A trained model on pictures of the user's choice: classes, label maps or objects, as JSON and drawn."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config

from internvl_mm.engine.runner import Runner
from internvl_mm.engine.strategies import SingleDeviceStrategy
from internvl_mm.registry import DATASETS
from internvl_mm.utils.console import console, progress_bar
from internvl_mm.utils.disk import check_writable
from internvl_mm.utils.errors import ConfigError, DataError, did_you_mean

from .images import Item, build_reader, class_of, find_images
from .outcomes import Outcome, named, outcome_of

RESULTS = 'results.json'
# What of a config makes the model; the rest trains and evaluates it.
_MODEL_KEYS = ('model', 'data_preprocessor', 'randomness', 'env_cfg', 'default_scope', 'compile')


class Inferencer:
    """A task with its weights, and the evaluation pipeline of its config.

    Args:
        cfg: A config with at least one benchmark, whose data set says how pictures are read.
        checkpoint: As ``load_from``: a training state, run folder, work_dir or weights; ``None`` takes the config's.
        benchmark: Whose data set to follow; the first by default.

    Raises:
        ConfigError: The config has no such benchmark.
        CheckpointError: The weights do not fit.
    """

    def __init__(self, cfg: Config, checkpoint: str | None = None, *, benchmark: str | None = None):
        parts = cfg.to_dict()
        dataset = dataset_of(parts, benchmark)
        self.task = load_task(parts, checkpoint or parts.get('load_from'))
        # Ours tell the square they were made for; backbones of mmseg or mmdet may not.
        size = getattr(getattr(self.task, 'backbone', None), 'image_size', None)
        self._reader = build_reader(dataset, image_size=size)
        self.names = named(getattr(self.task, 'classes', None) or _classes_of(dataset))

    def run(
        self, images: Sequence[str | Path], out: str | Path, *, batch_size: int = 8, min_score: float = 0.3
    ) -> dict[str, Any]:
        """Write ``results.json``, ``pictures/`` and, for segmentation, ``masks/`` into a folder.

        Args:
            images: Files and folders.
            out: The folder; made when needed.
            batch_size: Pictures read at a time; those of one size are computed together.
            min_score: Least score of an object.

        Returns:
            What ``results.json`` holds: ``images``, one record per picture, and ``failed``, one ``file`` and ``reason``
            per picture that could not be read.

        Raises:
            DataError: No picture, or none that could be read.
        """
        files, folder = find_images(images), Path(out)
        check_writable(folder, setting='--out', way_out='choose another folder')
        results: dict[str, Any] = dict(images=[], failed=[])
        names = _file_names(files)
        with progress_bar() as progress:
            task = progress.add_task('images', total=len(files))
            for start in range(0, len(files), batch_size):
                batch = files[start : start + batch_size]
                for index, outcome in self._outcomes(batch, results['failed'], min_score=min_score):
                    # Positions count within the batch, names through all files.
                    _keep(folder, names[start + index], outcome)
                    record = dict(file=str(batch[index]), **outcome.record)
                    if outcome.label_map is not None:
                        record['mask'] = f'masks/{names[start + index]}.png'
                    results['images'].append(dict(record, picture=f'pictures/{names[start + index]}.png'))
                progress.advance(task, len(batch))
        # Also when nothing could be read: the error below points at the reasons in it.
        text = json.dumps(results, indent=1, ensure_ascii=False)
        # Names of files may be no UTF-8; what cannot be encoded is written as JSON escapes it.
        (folder / RESULTS).write_text(text, encoding='utf-8', errors='backslashreplace')
        for failure in results['failed']:
            console.print(f'left out: {failure["reason"]}', style='yellow', soft_wrap=True)
        if not results['images']:
            raise DataError(
                f'none of {len(files)} pictures could be read; the reasons are in {folder / RESULTS}'
            )
        return results

    def _outcomes(
        self, files: Sequence[Path], failed: list[dict[str, str]], *, min_score: float
    ) -> Iterator[tuple[int, Outcome]]:
        """Position and result of every readable file; reasons of the others go to ``failed``."""
        items: dict[int, Item] = {}
        for index, file in enumerate(files):
            try:
                items[index] = self._reader.prepare(file, index)
            except DataError as error:
                failed.append(dict(file=str(file), reason=str(error)))
        # Back in the order of the files: predictions come size by size.
        for index, sample in sorted(self._predict(items).items()):
            # As the pipeline saw it: turned by EXIF where it turns.
            picture = self._reader.decode(files[index])
            yield index, outcome_of(sample, picture, self.names, min_score=min_score)

    @torch.no_grad()
    def _predict(self, items: dict[int, Item]) -> dict[int, Any]:
        """Samples with predictions by position; pictures of one size at a time, so that none is padded for another."""
        by_size = defaultdict(list)
        for index, item in items.items():
            by_size[tuple(item['inputs'].shape)].append(index)
        predicted: dict[int, Any] = {}
        for indices in by_size.values():
            batch = dict(
                inputs=[items[index]['inputs'] for index in indices],
                data_samples=[items[index]['data_samples'] for index in indices],
            )
            predicted.update(zip(indices, self.task.test_step(batch), strict=True))
        return predicted


def load_task(parts: dict[str, Any], checkpoint: str | None) -> Any:
    """The task on its device, in the precision of the config, with its weights.

    Args:
        parts: A config as plain settings; only what makes the model counts.
        checkpoint: As ``load_from``; ``None`` keeps the weights the config starts with.
    """
    chosen = {key: parts[key] for key in _MODEL_KEYS if key in parts}
    if checkpoint is None:
        # A published folder is part of the config (set_checkpoint), so that this may well be what was meant.
        console.print(
            'no training state to load: the model has the weights its config starts with', style='yellow'
        )
    precision = (parts.get('strategy') or {}).get('precision', 'auto')
    strategy = dict(type=SingleDeviceStrategy, precision=precision)
    # A runner keeps a log; nobody asked for one here.
    with TemporaryDirectory() as folder:
        settings = dict(chosen, strategy=strategy, work_dir=folder, load_from=checkpoint, log_level='WARNING')
        runner = Runner.from_cfg(Config(settings))
        runner.strategy.prepare(runner.model)
        runner.load_or_resume()
    return runner.strategy.task.eval()


def dataset_of(parts: dict[str, Any], name: str | None = None) -> dict[str, Any]:
    """Settings of the data set of a benchmark, which says how pictures are read.

    Args:
        parts: A config as plain settings.
        name: Of the benchmark; the first when left out.

    Raises:
        ConfigError: There is none.
    """
    benchmarks = parts.get('benchmarks') or {}
    if not benchmarks:
        raise ConfigError('the config has no benchmarks, whose data set would say how pictures are read')
    if name is not None and name not in benchmarks:
        hint = did_you_mean(name, benchmarks) or f' There are: {", ".join(benchmarks)}.'
        raise ConfigError(f"the config has no benchmark '{name}'.{hint}")
    return benchmarks[name or next(iter(benchmarks))]['dataloader']['dataset']


def _classes_of(dataset: dict[str, Any]) -> tuple[str, ...]:
    """Names of the classes: from the settings, from the data set's class, or from its files where they are at hand."""
    settings: Any = dataset
    while isinstance(settings, dict):
        known = getattr(class_of(settings), 'METAINFO', None) or {}
        found = settings.get('classes') or (settings.get('metainfo') or known).get('classes')
        if found:
            return tuple(found)
        # Of a wrapper, the names are those of what it wraps.
        settings = settings.get('dataset')
    try:
        return tuple(DATASETS.build(dataset).metainfo.get('classes') or ())
    except DataError as error:
        console.print(f'classes have no names here, only numbers: {error}', style='yellow')
        return ()


def _file_names(files: Sequence[Path]) -> list[str]:
    """A name for the outputs of each file: its own, with a number where several files share it."""
    names: dict[str, None] = {}
    for file in files:
        name, number = file.stem, 2
        # a, a_2, a: the number, too, may belong to another file, whose outputs would be lost.
        while name in names:
            name, number = f'{file.stem}_{number}', number + 1
        names[name] = None
    return list(names)


def _keep(folder: Path, name: str, outcome: Outcome) -> None:
    for part, image in (('pictures', outcome.drawing), ('masks', outcome.label_map)):
        if image is not None:
            (folder / part).mkdir(parents=True, exist_ok=True)
            image.save(folder / part / f'{name}.png')
