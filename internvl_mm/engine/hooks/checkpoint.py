"""Decides when training states are saved, which are kept, and which is the best."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

from internvl_mm.engine.checkpoint import BEST, point_latest, prune
from internvl_mm.engine.runner import Runner
from internvl_mm.engine.savers import BackgroundSaver, Saver
from internvl_mm.engine.tidying import Ancestors, ancestors_of, prune_ancestors, remove_leftovers
from internvl_mm.evaluation.metrics.base import SampleMetric
from internvl_mm.registry import HOOKS, SAVERS
from internvl_mm.utils.console import console
from internvl_mm.utils.errors import CheckpointError, ConfigError, did_you_mean

from ._runner import completes_update
from .ema import PREFIX as AVERAGE
from .ema import EMAHook

ANCESTORS = 'ancestors'  # name in the message hub of the runs this one goes on from


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Saves ``checkpoints/iter_<iterations done>`` in the run folder; files ``latest`` and ``best`` name two of them.

    Where batches are accumulated, a state waits for their update, but for one that became the best: it holds what was
    evaluated. The best is kept beside the newest ones. The last state of training is always saved. A run that goes on
    from what it found in its work_dir (``resume=True``) counts the states of the runs before it, too.

    Args:
        interval: Iterations (or epochs) between states.
        by_epoch: Count epochs.
        keep_last: Newest states to keep, over all starts of a training.
        save_best: Metric that decides which state is the best, e.g. ``'digits/top1'`` or ``'digits/ema/top1'``.
        rule: Whether a ``'greater'`` or a ``'less'`` value of it is better.
        trainable_only: Leave frozen parameters out of the states.
        saver: How states get to the disk; :class:`BackgroundSaver` when left out.

    Raises:
        ConfigError: ``save_best`` is not among what is evaluated during training.
        CheckpointError: A state cannot be written; of one in the background at the next save or the end.
    """

    priority = 'VERY_LOW'  # a state holds what other hooks did in the same step

    def __init__(
        self,
        interval: int = 1000,
        *,
        by_epoch: bool = False,
        keep_last: int = 2,
        save_best: str | None = None,
        rule: Literal['greater', 'less'] = 'greater',
        trainable_only: bool = False,
        saver: Saver | dict | None = None,
    ):
        if interval < 1 or keep_last < 1:
            raise ConfigError(
                f'CheckpointHook: interval={interval} and keep_last={keep_last} must be at least 1'
            )
        if rule not in ('greater', 'less'):
            raise ConfigError(f"CheckpointHook: rule='{rule}' is unknown: use 'greater' or 'less'")
        self.interval, self.by_epoch = interval, by_epoch
        self.keep_last, self.trainable_only = keep_last, trainable_only
        self.save_best, self.rule = save_best, rule
        self.saver: Saver = SAVERS.build(saver) if isinstance(saver, dict) else saver or BackgroundSaver()
        self._last = ''  # name of the newest state
        self._is_due = False  # waits for the update of an accumulation
        self._ancestors: Ancestors = []
        self._guard: Any = None

    def before_train(self, runner: Runner) -> None:
        """Find a misspelt benchmark or metric before hours of training; from now on no step overtakes a saver."""
        # Of every optimiser, also those inside DeepSpeed: nothing else changes weights during training.
        self._guard = register_optimizer_step_pre_hook(lambda *_: self.saver.settle())
        self._look_back(runner)
        if self.save_best is None:
            return
        known = list(runner.val_loop.loaders) if runner.val_loop else []
        benchmark = self.save_best.split('/')[0]
        if benchmark not in known:
            raise ConfigError(
                f"CheckpointHook: save_best='{self.save_best}' begins with no benchmark that is evaluated during "
                f'training; these are: {", ".join(known) or "none"}.{did_you_mean(benchmark, known)}'
            )
        metrics = _announced(runner, benchmark)
        if metrics is not None:
            self._check_measured(metrics)

    def _look_back(self, runner: Runner) -> None:
        """Learn which runs this one goes on from, and remove what killed ones left behind."""
        known, work_dir = runner.message_hub.runtime_info.get(ANCESTORS, ()), Path(runner.work_dir)
        self._ancestors = ancestors_of(runner.goes_on_from, known, work_dir)
        # In the message hub, so that the next start knows; also when empty, in place of another work_dir's.
        runner.message_hub.update_info(ANCESTORS, self._ancestors)
        if is_main_process():
            removed, failed = remove_leftovers(work_dir, runner.checkpoint_dir)
            for paths, what, say in (
                (removed, 'removed', runner.logger.info),
                (failed, 'cannot remove', runner.logger.warning),
            ):
                if paths:
                    names = ', '.join(str(path.relative_to(work_dir.resolve())) for path in paths)
                    say(f'{what} what killed runs left in {work_dir}: {names}')

    def _check_measured(self, metrics: Collection[str]) -> None:
        if self.save_best not in metrics:
            raise ConfigError(
                f"CheckpointHook: save_best='{self.save_best}' is not measured; measured are: "
                f'{", ".join(metrics)}.{did_you_mean(self.save_best, metrics)}'
            )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save every so many iterations."""
        self._is_due |= not self.by_epoch and self.every_n_train_iters(runner, self.interval)
        # States hold no gradients: those of an accumulation would be missing from its update.
        if self._is_due and completes_update(runner):
            self._is_due = False
            self._save(runner, epoch=runner.epoch, iteration=runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Save every so many epochs."""
        self._is_due |= self.by_epoch and self.every_n_epochs(runner, self.interval)
        if self._is_due and completes_update(runner):
            self._is_due = False
            self._save(runner, epoch=runner.epoch + 1, iteration=runner.iter)

    def before_val(self, runner: Runner) -> None:
        """Let nobody who evaluates other weights (averages) write into those that are being saved."""
        self.saver.settle()

    def before_state_changes(self, runner: Runner) -> None:
        """The same for hooks that change what they gave to states, outside optimiser steps; they call this event."""
        self.saver.settle()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Save a new best state; an evaluation without training changes nothing."""
        if self.save_best is None or runner.message_hub.runtime_info.get('max_iters') is None:
            return
        # Again: not every metric can say before what it will give.
        self._check_measured(metrics)
        value, best = metrics[self.save_best], runner.message_hub.runtime_info.get(BEST)
        better = best is None or (value > best['value'] if self.rule == 'greater' else value < best['value'])
        # NaN is never better than a number, but would stand as the first best.
        if better and math.isfinite(value):
            # In the message hub, so that a resumed run knows; a state of this step is replaced for the same reason.
            found = dict(run=_run(runner), state=_name(runner.iter), value=float(value))
            runner.message_hub.update_info(BEST, found)
            self._save(runner, epoch=runner.epoch, iteration=runner.iter)
            runner.logger.info(f'best {self.save_best} so far: {value:.4f}, kept as {_name(runner.iter)}')

    def save_now(self, runner: Runner) -> None:
        """Save in the middle of training, right after a step, unless the step was saved anyway."""
        if self._last != _name(runner.iter + 1):
            self._save(runner, epoch=runner.epoch, iteration=runner.iter + 1)
        # Whoever asks is about to end the process.
        self.saver.finish()

    def after_train(self, runner: Runner) -> None:
        """Save the end of training, and wait until everything is on the disk."""
        # The interval may have ended right here.
        if self._last != _name(runner.iter):
            self._save(runner, epoch=runner.epoch, iteration=runner.iter)
        self.saver.finish()
        self.after_stop(runner)

    def after_stop(self, runner: Runner) -> None:
        """Leave the optimisers of this process alone: other runs may train in it."""
        # Nothing waits for the saver here: one that waits for a dead process would hide why the run ended.
        if self._guard is not None:
            self._guard.remove()
            self._guard = None

    def _save(self, runner: Runner, *, epoch: int, iteration: int) -> None:
        name = self._last = _name(iteration)
        best = runner.message_hub.runtime_info.get(BEST)
        # The best state of a resumed run may lie in the folder of the run before. Looked up now: when the saver is
        # done, training may have found another.
        ours = [best['state']] if best and best['run'] == _run(runner) else []
        kept, work_dir = (best['run'], best['state']) if best else None, Path(runner.work_dir)

        def tidy(state: Path) -> None:
            # Before anything is deleted: a pointer to a state that is gone helps nobody.
            if ours == [name]:
                point_latest(state, name=BEST)
            prune(state.parent, keep_last=self.keep_last, protected=ours)
            try:
                prune_ancestors(work_dir, state.parent, self._ancestors, keep_last=self.keep_last, best=kept)
            except CheckpointError as error:
                # Folders of others, perhaps: no reason to end a training whose own states are in order.
                console.print(str(error), style='yellow', highlight=False)

        runner.save_checkpoint(
            str(runner.checkpoint_dir),
            name,
            meta=dict(epoch=epoch, iter=iteration),
            trainable_only=self.trainable_only,
            saver=self.saver,
            done=tidy,
        )


def _announced(runner: Runner, benchmark: str) -> list[str] | None:
    """What an evaluation of a benchmark will give; ``None`` when a metric or a hook cannot say so before it runs."""
    names: list[str] = []
    for metric in runner.val_loop.evaluators[benchmark].metrics:
        reported = metric.reported() if isinstance(metric, SampleMetric) else None
        if reported is None:
            return None
        names += [f'{metric.prefix}/{name}' if metric.prefix else name for name in reported]
    adding = [hook for hook in runner.hooks if hasattr(hook, 'after_benchmarks')]
    # The average of the weights is measured by the same metrics; other hooks may add whatever they like.
    if any(type(hook) is not EMAHook for hook in adding):
        return None
    names += [f'{AVERAGE}{name}' for name in names] if adding else []
    return [f'{benchmark}/{name}' for name in names]


def _name(iteration: int) -> str:
    # Zeros in front, so that listings sort by time up to a million iterations.
    return f'iter_{iteration:06d}'


def _run(runner: Runner) -> str:
    return Path(runner.log_dir).name
