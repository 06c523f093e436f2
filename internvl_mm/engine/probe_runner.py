"""A run that extracts features once and probes them, instead of training end to end."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from torch import Tensor

from internvl_mm.evaluation.metrics.base import SampleMetric
from internvl_mm.models.tasks import ImageTextTask
from internvl_mm.registry import DATASETS, PROBES, RUNNERS
from internvl_mm.structures import ImageSample
from internvl_mm.utils.console import console, print_table
from internvl_mm.utils.errors import ConfigError

from .features import FeatureCache, FeatureSet
from .loops import RESULTS, write_results
from .patience import patient_group
from .probes import BaseProbe, ProbeRow
from .runner import Runner

PROBE_ROWS = 'probe.json'


@RUNNERS.register_module()
class ProbeRunner(Runner):
    """Probe a frozen backbone on cached features; a config chooses it with ``runner_type = ProbeRunner``.

    The row with the best first metric of the first benchmark goes into ``results.json``; all rows stay in
    ``probe.json``. Like every published probe, the choice among rows is made on the evaluation data: with many
    settings the best row is slightly optimistic.

    Args:
        model: The task; its backbone must be frozen.
        probe: A :class:`~internvl_mm.engine.probes.BaseProbe` or its config.
        train_dataloader: Only its ``dataset`` is used.
        features: Arguments of :class:`~internvl_mm.engine.features.FeatureCache`.
        options: The other arguments of :class:`Runner`, without those of end-to-end training.
    """

    training_keys = ('train_dataloader', 'benchmarks')
    evaluates = False

    def __init__(
        self, model: Any, *, probe: dict, train_dataloader: dict, features: dict | None = None, **options: Any
    ):
        super().__init__(model, **options)
        self.probe: BaseProbe = PROBES.build(probe)
        self.cache = FeatureCache(**(features or {}))
        self._train_dataset = DATASETS.build(train_dataloader['dataset'])

    def train(self) -> list[ProbeRow]:
        """Extract what is missing in the cache, run the probe, print and keep its rows.

        Raises:
            ConfigError: The backbone is not frozen, or there are no benchmarks.
        """
        loop = self._test_loop = self.build_test_loop(self._test_loop) if self._test_loop else None
        if loop is None:
            raise ConfigError('benchmarks is empty: a probe needs at least one to be scored on')
        # No optimiser: the strategy places the model and chooses its precision.
        self.strategy.prepare(self.model, dispatch_kwargs={})
        self.model, task = self.strategy.model, self.strategy.task
        # Embeddings of an image–text task are probed as they are, from the files zero-shot evaluation keeps.
        if not isinstance(task, ImageTextTask) and not task.backbone.is_frozen:
            raise ConfigError("model.backbone.frozen must be 'all' for a probe on cached features")
        # Before the extraction, which may take hours.
        task.check_data(self._train_dataset.metainfo)
        for name, evaluator in loop.evaluators.items():
            for metric in evaluator.metrics:
                if not isinstance(metric, SampleMetric):
                    raise ConfigError(
                        f'benchmarks.{name}.metrics has {type(metric).__name__}, but probes score with metrics of '
                        'internvl_mm.evaluation.metrics, such as Accuracy'
                    )
        self.load_or_resume()
        self.call_hook('before_run')
        started = time.perf_counter()
        train = self.cache.extract(task, self._train_dataset)
        tests = {
            # Evaluation transforms are fixed: a second view would be the same.
            name: self.cache.extract(task, loader.dataset, views=1)
            for name, loader in loop.loaders.items()
        }
        extracted = time.perf_counter()
        rows = self._swept(task, train, tests)
        if is_main_process():
            count = train.extracted + sum(test.extracted for test in tests.values())
            console.print(
                f'{count} features extracted in {extracted - started:.1f} s, '
                f'{len(rows)} probes in {time.perf_counter() - extracted:.1f} s'
            )
            self._keep(rows)
        self.call_hook('after_run')
        return rows

    def _swept(self, task: Any, train: FeatureSet, tests: dict[str, FeatureSet]) -> list[ProbeRow]:
        """Run the probe on one process; the others wait and get its rows, without the trained modules."""
        # Every process has all features by now, so that without this each would run the same sweep.
        # Made by all before the sweep: the default group would give up while the first one is still at it.
        group = patient_group()
        shared: list[list[ProbeRow] | None] = [None]
        rows: list[ProbeRow] = []
        if is_main_process():
            rows = self.probe.run(
                task, train, tests, lambda name, logits: self._judge(name, tests[name], logits)
            )
            shared = [[replace(row, module=None) for row in rows]]
        broadcast_object_list(shared, group=group)
        return rows or shared[0]

    def _judge(self, name: str, test: FeatureSet, logits: Tensor) -> dict[str, float]:
        """Score logits with the metrics of a benchmark, as its own loop would; on one process alone."""
        evaluator, dataset = self._test_loop.evaluators[name], test.dataset
        samples = []
        for index, scores in zip(test.views[0][1].tolist(), logits.float().cpu(), strict=True):
            label = int(dataset.targets[index])
            sample = ImageSample.labelled(label, dataset=dataset.name, index=index, path=dataset.path(index))
            # What metrics such as ReaL need besides the label.
            dataset.annotate(sample, index)
            sample.pred_logits = scores
            samples.append(sample)
        evaluator.process(data_samples=samples)
        return {
            f'{name}/{key}': value
            for metric in evaluator.metrics
            for key, value in metric.evaluate_here().items()
        }

    def _keep(self, rows: list[ProbeRow]) -> None:
        # Dicts keep the order of the config: its first benchmark's first metric.
        chosen = next(iter(rows[0].metrics))
        # Of equal rows the first, in the order of the config.
        best = max(rows, key=lambda row: row.metrics[chosen])
        plain = [dict(setting=row.setting, metrics=row.metrics, best=row is best) for row in rows]
        Path(self.log_dir, PROBE_ROWS).write_text(json.dumps(plain, indent=1) + '\n', encoding='utf-8')
        results = []
        for key, value in best.metrics.items():
            benchmark, _, metric = key.partition('/')
            # A metric with a prefix counts its samples under it; the last part is the name of a number.
            before, _, last = key.rpartition('/')
            if last != 'n':
                n = best.metrics.get(f'{before}/n', len(self._test_loop.loaders[benchmark].dataset))
                row = dict(benchmark=benchmark, metric=metric, value=value, n=n)
                results.append(dict(row, setting=best.setting, config_hash=self.config_hash))
        write_results(Path(self.log_dir, RESULTS), results)
        # Counts are equal in all rows, and votes of neighbours are no logits to take a loss of.
        shown = [key for key in best.metrics if key.rpartition('/')[2] not in ('n', 'loss')]
        table = [
            [*row.setting.values(), *(row.metrics[key] for key in shown), '*' if row is best else '']
            for row in rows
        ]
        print_table(
            f'{type(self.probe).__name__} on frozen features', [*rows[0].setting, *shown, 'best'], table
        )
