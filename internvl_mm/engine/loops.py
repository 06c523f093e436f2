"""Order of steps: epochs or iterations of training, exact after a resume; named lists of benchmarks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.dist import is_main_process
from mmengine.runner import BaseLoop
from mmengine.runner import EpochBasedTrainLoop as MMEpochLoop
from mmengine.runner import IterBasedTrainLoop as MMIterLoop
from pydantic import PositiveInt
from torch.utils.data import BatchSampler, DataLoader

from internvl_mm.data.samplers import EpochSampler, StreamSampler
from internvl_mm.evaluation.figures import write_figures
from internvl_mm.evaluation.prompts import DatasetPrompts
from internvl_mm.evaluation.report import ResultRow, interval_text
from internvl_mm.preprocess.class_prompts import ClassPrompts
from internvl_mm.registry import LOOPS, STEPS, TRANSFORMS
from internvl_mm.utils.console import print_table, progress_bar
from internvl_mm.utils.disk import write_whole
from internvl_mm.utils.errors import ConfigError, DataError

from .steps import PlainStep

RESULTS = 'results.json'
# Name in the message hub: iterations that were done when benchmarks were last evaluated.
EVALUATED = 'evaluated'
TABLE = ('benchmark', 'metric', 'value', '95 % interval', 'n')

WORKER_GRACE = 2.0  # seconds between a broken pipe and the signal that a worker died


def batches(loader: DataLoader, *, done: int) -> Iterator[Any]:
    """Iterate over the batches of an epoch after the first ``done``.

    Samplers with ``skip(samples)`` jump there; with others, and with batch samplers of other kinds than torch's, the
    batches are read and dropped.
    """
    # With a batch sampler of its own a loader's sampler is an unused sequential one.
    drawn = loader.batch_sampler
    sampler: Any = getattr(drawn, 'sampler', None)
    # Other kinds may keep samples for later batches: which ones, only those before can tell.
    if done and type(drawn) is BatchSampler and hasattr(sampler, 'skip'):
        # The last batch of an epoch may be smaller.
        sampler.skip(min(done * drawn.batch_size, len(sampler)))
        done = 0
    # After the skip: workers begin to read as soon as there is an iterator.
    iterator = iter(loader)
    for _ in range(done):
        next(iterator, None)
    return _with_named_deaths(iterator)


def _with_named_deaths(iterator: Iterator[Any]) -> Iterator[Any]:
    """The same batches; the death of a worker is told by torch, which names it, not by the pipe it held."""
    try:
        yield from iterator
    except (ConnectionError, EOFError) as error:
        # The pipe may break before the signal arrives whose handler raises torch's error, then from within this sleep.
        time.sleep(WORKER_GRACE)
        # Or the handler raised where nobody listens, in a finaliser: then it is said here, as torch says it.
        dead = [worker.pid for worker in getattr(iterator, '_workers', ()) if not worker.is_alive()]
        if dead:
            pids = ', '.join(map(str, dead))
            raise RuntimeError(f'DataLoader worker (pid(s) {pids}) exited unexpectedly') from error
        raise


@LOOPS.register_module()
class EpochTrainLoop(MMEpochLoop):
    """Training by epochs; resumes in the middle of one with the very next batch.

    Args:
        runner: The runner.
        dataloader: Training data, or its config.
        max_epochs: Epochs to train.
        val_begin: First epoch after which to evaluate.
        val_interval: Epochs between evaluations.
        step: What is done with a batch: a :class:`PlainStep` when left out.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_epochs: PositiveInt,
        val_begin: int = 1,
        val_interval: PositiveInt = 1,
        step: PlainStep | dict | None = None,
    ):
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval)
        self.step = _built(step)
        if isinstance(self.dataloader.sampler, StreamSampler):
            raise ConfigError(
                'train_dataloader.sampler=StreamSampler never ends, but EpochTrainLoop waits for the end of an epoch: '
                'use EpochSampler, or IterTrainLoop'
            )

    def run(self) -> torch.nn.Module:
        """Train."""
        self.runner.call_hook('before_train')
        # Between two epochs: within one the evaluation of the last is over.
        if self._iter == self._epoch * len(self.dataloader):
            _evaluate_if_due(self, self._epoch, self._max_epochs)
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            _evaluate_if_due(self, self._epoch, self._max_epochs)
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Iterate over one epoch, or what is left of it."""
        done = self._iter - self._epoch * len(self.dataloader)  # 0 unless resumed in the middle of an epoch
        self.runner.call_hook('before_train_epoch')
        # Evaluations leave the model in eval mode.
        self.runner.model.train()
        # After the hooks: those of an interrupted epoch already ran before its random states were saved.
        self.runner.restore_rng()
        for number, batch in enumerate(batches(self.dataloader, done=done), start=done):
            self.run_iter(number, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """One step."""
        _run_step(self, idx, data_batch)


@LOOPS.register_module()
class IterTrainLoop(MMIterLoop):
    """Training by iterations over an endless order of samples; resumes with the very next batch.

    Args:
        runner: The runner.
        dataloader: Training data, or its config; its sampler is endless, as ``StreamSampler`` is.
        max_iters: Iterations to train.
        val_begin: First iteration after which to evaluate.
        val_interval: Iterations between evaluations.
        step: What is done with a batch: a :class:`PlainStep` when left out.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        max_iters: PositiveInt,
        val_begin: int = 1,
        val_interval: PositiveInt = 1000,
        step: PlainStep | dict | None = None,
    ):
        super().__init__(runner, dataloader, max_iters, val_begin, val_interval)
        self.step = _built(step)
        if isinstance(self.dataloader.sampler, EpochSampler):
            raise ConfigError(
                'train_dataloader.sampler=EpochSampler ends after an epoch, but IterTrainLoop does not count epochs: '
                'use StreamSampler, or EpochTrainLoop'
            )

    def run(self) -> torch.nn.Module:
        """Train."""
        hook = self.runner.call_hook
        hook('before_train')
        # To hooks, training is one long epoch.
        hook('before_train_epoch')
        if self._iter > 0:
            self.dataloader_iterator.skip_iter(self._iter)
        # After the hooks, as in EpochTrainLoop.
        self.runner.restore_rng()
        _evaluate_if_due(self, self._iter, self._max_iters)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            _evaluate_if_due(self, self._iter, self._max_iters)
        hook('after_train_epoch')
        hook('after_train')
        return self.runner.model

    def run_iter(self, data_batch: Any) -> None:
        """One step."""
        _run_step(self, self._iter, data_batch)


def _evaluate_if_due(loop: Any, done: int, last: int) -> None:
    """Evaluate where the intervals say so, unless it has been done.

    Also where a resumed run begins: states are written before the evaluation that belongs to them, and a run that ended
    in between would never have it.

    Args:
        loop: Of training.
        done: Epochs or iterations.
        last: How many there will be.
    """
    runner = loop.runner
    due = done >= max(loop.val_begin, 1) and (done % loop.val_interval == 0 or done == last)
    if runner.val_loop is None or not due or runner.message_hub.runtime_info.get(EVALUATED) == loop.iter:
        return
    # An evaluation that draws at random draws what it would have drawn.
    runner.restore_rng()
    runner.val_loop.run()


def _built(step: PlainStep | dict | None) -> PlainStep:
    return STEPS.build(step) if isinstance(step, dict) else step or PlainStep()


def _run_step(loop: Any, number: int, batch: Any) -> None:
    """As mmengine's loops do it, with the loop's own step in the middle."""
    hook = loop.runner.call_hook
    hook('before_train_iter', batch_idx=number, data_batch=batch)
    outputs = loop.step(loop.runner.model, batch, loop.runner.optim_wrapper)
    hook('after_train_iter', batch_idx=number, data_batch=batch, outputs=outputs)
    loop._iter += 1


@LOOPS.register_module()
class BenchmarkLoop(BaseLoop):
    """Evaluate a named list of benchmarks into one table, ``results.json`` and one flat dict.

    Args:
        runner: The runner.
        benchmarks: Name to ``dict(dataloader=..., metrics=[...])``; for zero-shot classification also ``prompts``,
            :class:`~internvl_mm.evaluation.prompts.DatasetPrompts` or
            :class:`~internvl_mm.preprocess.class_prompts.ClassPrompts`.
        stage: ``'val'`` during training, ``'test'`` otherwise: which hooks are called.
    """

    def __init__(self, runner: Any, benchmarks: dict[str, dict], stage: Literal['val', 'test'] = 'val'):
        self._runner = runner
        self.stage = stage
        self.loaders: dict[str, DataLoader] = {}
        self.evaluators: dict[str, Any] = {}
        self.prompts: dict[str, ClassPrompts] = {}
        for name, parts in benchmarks.items():
            self.loaders[name] = runner.build_dataloader(parts['dataloader'], seed=runner.seed)
            self.evaluators[name] = runner.build_evaluator(list(parts['metrics']))
            dataset = self.loaders[name].dataset
            # Where mmseg's and mmdet's metrics find names of classes.
            self.evaluators[name].dataset_meta = getattr(dataset, 'metainfo', None)
            if parts.get('prompts') is not None:
                self.prompts[name] = _prompts_for(parts['prompts'], dataset, name)
        # Hooks ask before the first benchmark runs.
        self.current = next(iter(self.loaders))

    @property
    def dataloader(self) -> DataLoader:
        """Of the benchmark that runs; hooks ask for it."""
        return self.loaders[self.current]

    @property
    def evaluator(self) -> Any:
        """Of the benchmark that runs."""
        return self.evaluators[self.current]

    def run(self) -> dict[str, float]:
        """Evaluate all; returns ``{'<benchmark>/<metric>': value}``, the same on every process."""
        hook = self.runner.call_hook
        hook(f'before_{self.stage}')
        hook(f'before_{self.stage}_epoch')
        results = self.measure()
        hook('after_benchmarks', loop=self, results=results)  # may add numbers, as EMAHook does
        # Before the hooks that save, so that a state which is written now says that this is behind it.
        self.runner.message_hub.update_info(EVALUATED, self.runner.iter)
        flat = {
            f'{name}/{metric}': value for name, values in results.items() for metric, value in values.items()
        }
        if is_main_process():
            rows = self._rows(results)
            write_results(Path(self.runner.log_dir) / RESULTS, rows)
            write_figures(self.runner.log_dir, self._figures())
            print_table('Results', TABLE, [_cells(row) for row in rows])
        hook(f'after_{self.stage}_epoch', metrics=flat)
        hook(f'after_{self.stage}')
        return flat

    def measure(self) -> dict[str, dict[str, float]]:
        """Metrics of each benchmark with the present weights, without writing them."""
        self.runner.model.eval()
        results = {}
        for name in self.loaders:
            # Hooks that run meanwhile ask for the loader and the evaluator.
            self.current = name
            if name in self.prompts:
                dataset = self.loaders[name].dataset.name
                self.runner.strategy.task.set_class_prompts(dataset, self.prompts[name])
            results[name] = self._evaluate()
        return results

    @torch.no_grad()
    def _evaluate(self) -> dict[str, float]:
        model = self.runner.model
        step = model.val_step if self.stage == 'val' else model.test_step
        with progress_bar() as progress:
            for number, batch in enumerate(progress.track(self.dataloader, description=self.current)):
                self.runner.call_hook(f'before_{self.stage}_iter', batch_idx=number, data_batch=batch)
                outputs = step(batch)
                self.evaluator.process(data_samples=outputs, data_batch=batch)
                self.runner.call_hook(
                    f'after_{self.stage}_iter', batch_idx=number, data_batch=batch, outputs=outputs
                )
        # The size bounds what padded samplers repeat.
        return self.evaluator.evaluate(len(self.dataloader.dataset))

    def _figures(self) -> dict[str, list[Any]]:
        """What metrics left for the report; those of other libraries leave nothing."""
        return {
            name: [figure for metric in evaluator.metrics for figure in getattr(metric, 'figures', ())]
            for name, evaluator in self.evaluators.items()
        }

    def _rows(self, results: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
        """One row per number; metrics that count their samples as ``n`` (or ``prefix/n``) give the n of their rows.

        A metric says the ends of its 95 % interval as ``<name>_low`` and ``<name>_high``, which join its row.
        """
        rows = []
        for benchmark, values in results.items():
            for metric, value in values.items():
                # A metric may carry a prefix with slashes; the last part is its name.
                prefix, _, name = metric.rpartition('/')
                if name == 'n' or metric.removesuffix('_low').removesuffix('_high') in values.keys() - {
                    metric
                }:
                    continue
                n = values.get(f'{prefix}/n' if prefix else 'n', len(self.loaders[benchmark].dataset))
                lower, upper = values.get(f'{metric}_low'), values.get(f'{metric}_high')
                # Shares of samples have an interval without the metric's help.
                row = ResultRow(benchmark, metric, value, int(n), lower=lower, upper=upper).with_interval()
                # What the number belongs to, for readers of the file who have no config beside it.
                rows.append(dict(vars(row), iter=self.runner.iter, config_hash=self.runner.config_hash))
        return rows


def _prompts_for(part: Any, dataset: Any, benchmark: str) -> ClassPrompts:
    prompts = TRANSFORMS.build(part) if isinstance(part, dict) else part
    if isinstance(prompts, DatasetPrompts):
        prompts = prompts.prompts(dataset.classes)
    if len(prompts.names) != len(dataset.classes):
        raise DataError(
            f"benchmark '{benchmark}': {len(prompts.names)} names for the {len(dataset.classes)} classes of "
            f"'{dataset.name}': give one name for each class, in the order of the labels"
        )
    return prompts


def _cells(row: dict[str, Any]) -> list[Any]:
    known = ResultRow(**{name: row[name] for name in ResultRow.__dataclass_fields__})
    return [known.benchmark, known.metric, known.value, interval_text(known), known.n]


def write_results(path: Path, rows: list[dict[str, Any]]) -> None:
    """Merge rows into a results file, atomically: the latest of each (benchmark, metric) stays."""
    old = json.loads(path.read_text('utf-8')) if path.exists() else []
    # A run of some benchmarks leaves the results of the others.
    merged = {(row['benchmark'], row['metric']): row for row in [*old, *rows]}
    write_whole(path, json.dumps(list(merged.values()), indent=1))
