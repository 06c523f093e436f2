"""The whole run: parts built from a config, a run folder, training and evaluation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from mmengine.runner import BaseLoop, FlexibleRunner
from torch.utils.data import DataLoader

from internvl_mm.data.worker_signals import deafen_workers
from internvl_mm.registry import RUNNERS
from internvl_mm.utils.disk import check_writable
from internvl_mm.utils.errors import ConfigError, UserError, did_you_mean
from internvl_mm.utils.states import find_state

from . import resuming
from .checkpoint import derive_rng, read_meta, set_rng
from .environment import write_environment
from .loops import BenchmarkLoop, EpochTrainLoop
from .no_pickles import forbid_pickles
from .savers import Saver
from .settings import RunConfig, config_hash, named, strategy_with_class
from .trees import encode

# mmengine's hooks without which a run would not work; a config's default_hooks are added to them.
_DEFAULT_HOOKS: dict[str, Any] = dict(
    runtime_info=dict(type='mmengine.RuntimeInfoHook'),
    timer=dict(type='mmengine.IterTimerHook'),
    sampler_seed=dict(type='mmengine.DistSamplerSeedHook'),
    logger=dict(type='mmengine.LoggerHook'),
    param_scheduler=dict(type='mmengine.ParamSchedulerHook'),
)


@RUNNERS.register_module()
class Runner(FlexibleRunner):
    """Train and evaluate what a config describes.

    Everything a run leaves lies in ``log_dir`` = ``<work_dir>/<time>/``: ``config.py``, ``environment.json``, the log,
    scalars, ``checkpoints/``, ``results.json``.

    Args:
        model: The task.
        work_dir: Folder of run folders.
        experiment_name: Default: the config's file name.
        train_dataloader: With ``train_cfg`` and ``optim_wrapper``, what training needs.
        optim_wrapper: Optimiser, clipping, accumulation, parameter groups.
        param_scheduler: Learning-rate schedules.
        train_cfg: The training loop, e.g. ``dict(type=EpochTrainLoop, max_epochs=10)``.
        benchmarks: Name to ``dict(dataloader=..., metrics=[...])``.
        val_benchmarks: Names to evaluate during training; all when left out, none when empty.
        test_benchmarks: Names :meth:`test` evaluates; all when left out.
        strategy: Default: one process, or DDP under a launcher.
        auto_scale_lr: ``dict(base_batch_size=...)``: learning rates x global batch / base.
        default_hooks: Hooks by role; ``None`` removes one of mmengine's.
        custom_hooks: More hooks.
        data_preprocessor: Given to the model, when its config has none.
        load_from: Weights to start from; a resumed run takes from there what its state leaves out.
        resume: ``True``: go on from the latest training state of ``work_dir`` if there is one; a path: from that one.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        env_cfg: Arguments of mmengine's environment set-up; ``dist_cfg=dict(backend='auto')``.
        log_processor: mmengine's log processor.
        log_level: Of the log.
        visualizer: mmengine's visualizer.
        default_scope: Registry scope of type names.
        randomness: ``dict(seed=...)``.
        compile: ``True`` or options of ``torch.compile``.
        cfg: The whole config, for the run folder.

    Attributes:
        training_keys: Settings without which :meth:`train` has nothing to do.
        goes_on_from: The state that ``resume=True`` found in ``work_dir``; ``None`` otherwise.
        evaluates: Whether ``tools/test.py`` takes it; probes, whose training data may be away, leave it to this class.
    """

    training_keys: tuple[str, ...] = ('train_dataloader', 'train_cfg', 'optim_wrapper')
    evaluates = True

    def __init__(
        self,
        model: Any,
        *,
        work_dir: str = 'work_dirs',
        experiment_name: str | None = None,
        train_dataloader: dict | None = None,
        optim_wrapper: dict | None = None,
        param_scheduler: dict | list | None = None,
        train_cfg: dict | None = None,
        benchmarks: dict | None = None,
        val_benchmarks: list[str] | tuple[str, ...] | None = None,
        test_benchmarks: list[str] | tuple[str, ...] | None = None,
        strategy: dict | None = None,
        auto_scale_lr: dict | None = None,
        default_hooks: dict | None = None,
        custom_hooks: list | None = None,
        data_preprocessor: torch.nn.Module | dict | None = None,
        load_from: str | None = None,
        resume: bool | str = False,
        launcher: Literal['none', 'pytorch', 'slurm', 'mpi'] = 'none',
        env_cfg: dict | None = None,
        log_processor: dict | None = None,
        log_level: Literal['DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'] = 'INFO',
        visualizer: Any = None,
        default_scope: str = 'internvl_mm',
        randomness: dict | None = None,
        compile: bool | dict = False,
        cfg: Config | dict | None = None,
    ):
        forbid_pickles()
        check_writable(work_dir, setting='work_dir', way_out='choose another with --work-dir')
        # Before there is a run folder: afterwards the run folders of this start would be found, too.
        found = resume in (True, 'auto')
        resume = resuming.choose_together(work_dir, resume, launcher, env_cfg or {})
        # A state that was named is its owner's, who may start from it again; this training leaves it alone.
        self.goes_on_from = Path(resume) if found and resume else None
        # Held back until the first batch: building and hooks draw numbers, too.
        self._pending_rng: dict[str, Any] | None = None
        self._benchmarks = dict(benchmarks or {})
        super().__init__(
            model,
            work_dir=work_dir,
            experiment_name=experiment_name,
            train_dataloader=train_dataloader,
            optim_wrapper=optim_wrapper,
            param_scheduler=param_scheduler,
            train_cfg=train_cfg,
            strategy=strategy_with_class(strategy) or self._default_strategy(launcher),
            auto_scale_lr=auto_scale_lr,
            default_hooks=default_hooks,
            custom_hooks=custom_hooks,
            data_preprocessor=data_preprocessor,
            # A state holds all weights: pretrained ones would be read for nothing.
            load_from=None if resume else load_from,
            resume=resume or False,
            launcher=launcher,
            env_cfg=env_cfg or {},
            log_processor=log_processor,
            log_level=log_level,
            visualizer=visualizer,
            default_scope=default_scope,
            randomness=resuming.seed_of(randomness, resume),
            compile=compile,
            cfg=cfg,
        )
        # Not given to mmengine's constructor, which takes a loop with its loader and evaluator or none of the three.
        self._val_loop = self._chosen('val_benchmarks', val_benchmarks)
        self._test_loop: Any = self._chosen('test_benchmarks', test_benchmarks)

    @classmethod
    def from_cfg(cls, cfg: Config | dict) -> Runner:
        """Build a runner from a config; the keys are the constructor's arguments."""
        # Down to Runner, not to mmengine's: what only that one takes, such as val_cfg, is no setting here.
        kinds = [kind for kind in cls.__mro__ if issubclass(kind, Runner)]
        # cfg is given below; options only passes on what parents name.
        names = {name for kind in kinds for name in inspect.signature(kind).parameters} - {'cfg', 'options'}
        parts = cfg.to_dict() if isinstance(cfg, Config) else dict(cfg)
        filename = cfg.filename if isinstance(cfg, Config) else None
        return cls(
            **{name: parts[name] for name in names if name in parts},
            cfg=RunConfig(named(parts), filename=filename),
        )

    @staticmethod
    def _default_strategy(launcher: str) -> dict[str, Any]:
        from .strategies import DDPStrategy, SingleDeviceStrategy

        return dict(type=SingleDeviceStrategy if launcher == 'none' else DDPStrategy)

    # ---- the run folder ----

    @property
    def checkpoint_dir(self) -> Path:
        """Where the training states of this run go."""
        return Path(self.log_dir) / 'checkpoints'

    @property
    def config_hash(self) -> str:
        """Twelve hexadecimal digits of a hash over everything that decides what is computed."""
        return config_hash(self.cfg)

    def dump_config(self) -> None:
        """Write the resolved config into the run folder."""
        if is_main_process():
            self.cfg.dump(Path(self.log_dir) / 'config.py')

    def _log_env(self) -> None:
        if is_main_process():
            environment = write_environment(self.log_dir)
            lines = '\n'.join(f'  {name}: {value}' for name, value in environment.items())
            self.logger.info(f'run folder {self.log_dir}\n{lines}')

    # ---- parts ----

    def get_hooks_info(self) -> str:
        """Names of the hooks, for the log, in the order they are called; mmengine's table takes sixty lines."""
        return '  ' + ', '.join(type(hook).__name__ for hook in self.hooks)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register the config's default hooks over mmengine's indispensable ones."""
        for hook in {**_DEFAULT_HOOKS, **(hooks or {})}.values():
            if hook is not None:
                self.register_hook(dict(hook) if isinstance(hook, dict) else hook)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader whose start draws nothing from the global random numbers, so that resuming is exact."""
        if isinstance(dataloader, dict):
            dataloader = dict(dataloader, generator=torch.Generator().manual_seed(seed or 0))
        return deafen_workers(FlexibleRunner.build_dataloader(dataloader, seed, diff_rank_seed))

    def _chosen(self, setting: str, names: list[str] | tuple[str, ...] | None) -> dict | None:
        """The benchmarks a setting names, ready for :class:`BenchmarkLoop`; ``None`` for none."""
        names = list(self._benchmarks) if names is None else list(names)
        for name in names:
            if name not in self._benchmarks:
                raise ConfigError(
                    f'{setting} names {name!r}, but benchmarks has {sorted(self._benchmarks)}.'
                    f'{did_you_mean(name, self._benchmarks)}'
                )
        return {name: self._benchmarks[name] for name in names} or None

    def build_train_loop(self, loop: Any) -> Any:
        """Build the training loop; the task then looks at its data."""
        loop = super().build_train_loop(loop)
        if not len(loop.dataloader):
            # The loader's own batch_size is None beside a batch sampler, which may know no size either.
            size = getattr(loop.dataloader.batch_sampler, 'batch_size', 'its batch_sampler')
            raise ConfigError(
                f'train_dataloader: {len(loop.dataloader.dataset)} samples make no batch of {size} per process: '
                'lower batch_size or set drop_last=False'
            )
        return loop

    def build_val_loop(self, loop: Any) -> BenchmarkLoop:
        """Build the loop over ``val_benchmarks``."""
        return loop if isinstance(loop, BenchmarkLoop) else BenchmarkLoop(self, loop, 'val')

    def build_test_loop(self, loop: Any) -> BenchmarkLoop:
        """Build the loop over ``test_benchmarks``."""
        return loop if isinstance(loop, BenchmarkLoop) else BenchmarkLoop(self, loop, 'test')

    # ---- running ----

    def train(self) -> Any:
        """Train; returns the model.

        However it ends early (error, signal, Ctrl-C), hooks with ``after_stop(runner)`` give back what they took of
        this process (signal handlers, threads, the terminal): whoever called may go on, as a notebook does.

        Raises:
            ConfigError: The config describes no training.
        """
        if self._train_loop is None:
            raise ConfigError('nothing to train: no train_dataloader, train_cfg and optim_wrapper')
        with ExitStack() as early:
            early.callback(self._clean_up)
            model = super().train()
            early.pop_all()  # it ended by itself, and its hooks have done so in after_train
            return model

    def _clean_up(self) -> None:
        for hook in self.hooks:
            try:
                getattr(hook, 'after_stop', lambda runner: None)(self)
            except (UserError, OSError, RuntimeError, ValueError):
                # Logged alone: why the run ended is to be told, its exit status kept, and the next hook called.
                self.logger.error(f'{type(hook).__name__} failed to clean up after the run', exc_info=True)

    def val(self) -> dict[str, float]:
        """Evaluate ``val_benchmarks``."""
        if self._val_loop is None:
            raise ConfigError('nothing to evaluate: val_benchmarks is empty')
        return super().val()

    def test(self) -> dict[str, float]:
        """Evaluate ``test_benchmarks``."""
        if self._test_loop is None:
            raise ConfigError('nothing to evaluate: no benchmarks, or test_benchmarks is empty')
        # Whoever asks for the iteration would build the training data, which need not be at hand.
        training, built = self._train_loop, isinstance(self._train_loop, BaseLoop)
        self._train_loop = training if built else None
        try:
            return super().test()
        finally:
            self._train_loop = training

    def load_or_resume(self) -> None:
        """Load what the config asks for; called after the model was built."""
        self._check_data()
        if self._has_loaded:
            return  # train() and then test() of one runner must not go back to the loaded weights
        if self._resume and self._train_loop is not None:
            self.resume(self._resume)
        elif self._resume or self._load_from:
            # An evaluation takes the weights of a state alone.
            self.load_checkpoint(self._resume or self._load_from)
        self._has_loaded = True

    def _check_data(self) -> None:
        task = self.strategy.task
        if self._train_loop is not None and hasattr(task, 'check_data'):
            task.check_data(getattr(self.train_dataloader.dataset, 'metainfo', None) or {})

    # ---- training states ----

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
        trainable_only: bool = False,
        saver: Saver | None = None,
        done: Callable[[Path], None] | None = None,
    ) -> None:
        """Write a training state; called by every process, from hooks.

        Args:
            out_dir: Folder of states.
            filename: Name of the state, e.g. ``'iter_000100'``.
            file_client_args: Not used.
            save_optimizer: Without it the state serves as weights only.
            save_param_scheduler: Keep learning-rate schedules.
            meta: More facts; its ``epoch`` and ``iter`` are how many are done.
            by_epoch: Called after an epoch, else after an iteration; counts what is done when ``meta`` does not.
            backend_args: Not used.
            trainable_only: Leave frozen parameters out.
            saver: How the files get to the disk; at once when left out.
            done: Called by the first process once the state is on the disk.

        Raises:
            CheckpointError: It cannot be written.
        """
        # In the hooks that save, the loop has not yet counted what it just did.
        counts = dict(epoch=self.epoch + by_epoch, iter=self.iter + (not by_epoch))
        facts = dict(counts, **(meta or {}))
        # order is compared on resume; frozen_from says where weights come from that trainable_only leaves out.
        facts.update(
            experiment_name=self.experiment_name,
            config=self.cfg.pretty_text,
            config_hash=self.config_hash,
            order=self._order(),
            frozen_from=resuming.sources_of(self.cfg.to_dict()),
        )
        self.strategy.save_checkpoint(
            str(Path(out_dir) / filename),
            save_optimizer=save_optimizer,
            save_param_scheduler=save_param_scheduler,
            extra_ckpt=dict(meta=facts, message_hub=self._plain_messages()),
            callback=lambda checkpoint: self.call_hook('before_save_checkpoint', checkpoint=checkpoint),
            trainable_only=trainable_only,
            saver=saver,
            done=done,
        )

    def _order(self) -> dict[str, Any]:
        by_epoch = isinstance(self.train_loop, EpochTrainLoop)
        return resuming.order_facts(self.train_dataloader, world_size=self.world_size, by_epoch=by_epoch)

    def _plain_messages(self) -> dict[str, Any]:
        """The message hub's state without what only a pickle could hold, which is logged."""
        state = self.message_hub.state_dict()
        # A list, since entries go on the way.
        for name in list(state['runtime_info']):
            try:
                encode(state['runtime_info'][name], name, {})
            except TypeError as error:
                self.logger.debug(f'not in the checkpoint: {error}')
                del state['runtime_info'][name]
        return state

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: Any = 'default',
    ) -> None:
        """Go on from a training state, with the very next batch and the same random numbers.

        Args:
            filename: A training state, run folder or work_dir.
            resume_optimizer: Load the optimiser.
            resume_param_scheduler: Load the schedules.
            map_location: Not used.

        Raises:
            CheckpointError: It cannot be resumed from.
        """
        state = find_state(filename)
        # Refused, if at all, before weights and optimiser change.
        meta = read_meta(state)
        resuming.check_order(meta, self._order(), str(state))
        for note in resuming.check_and_note(meta, self.cfg.pretty_text, self.world_size, str(state)):
            self.logger.warning(note)
        checkpoint = self.strategy.resume(
            str(state),
            resume_optimizer=resume_optimizer,
            resume_param_scheduler=resume_param_scheduler,
            callback=lambda found: self.call_hook('after_load_checkpoint', checkpoint=found),
        )
        # Private, but mmengine's own resume sets them in the same way.
        self.train_loop._epoch, self.train_loop._iter = meta['epoch'], meta['iter']
        self.message_hub.load_state_dict(checkpoint['message_hub'])
        self._pending_rng = checkpoint.get('rng')
        if meta['world_size'] != self.world_size:
            # Random states are kept one per process: with another number of them nobody has a right one.
            self._pending_rng = derive_rng(self.seed, meta['iter'], self.rank)
        self.logger.info(f'resumed after epoch {meta["epoch"]}, iteration {meta["iter"]}')

    def restore_rng(self) -> None:
        """Put back the random states of a resumed run, once; loops call it right before the first batch."""
        if self._pending_rng is not None:
            set_rng(self._pending_rng)
            self._pending_rng = None

    def load_checkpoint(
        self, filename: str, map_location: Any = 'cpu', strict: bool = True, revise_keys: list | None = None
    ) -> None:
        """Load weights only, strictly.

        Args:
            filename: See :meth:`StrategyMixin.load_checkpoint`.
            map_location: Not used.
            strict: Not used: always strict.
            revise_keys: Not used.
        """
        self.strategy.load_checkpoint(
            filename, callback=lambda found: self.call_hook('after_load_checkpoint', checkpoint=found)
        )
        barrier()


def build_runner(cfg: Config, *, job: Literal['train', 'test'] = 'train') -> Runner:
    """Build the runner a config chooses with ``runner_type``; :class:`Runner` by default, and for tests of probes."""
    kind = cfg.get('runner_type') or Runner
    return (kind if job == 'train' or kind.evaluates else Runner).from_cfg(cfg)
