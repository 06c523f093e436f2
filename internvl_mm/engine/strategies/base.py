"""What all strategies share: precision, learning-rate scaling, and training states without pickle."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine._strategy import BaseStrategy
from mmengine.device import get_device
from mmengine.dist import broadcast_object_list
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper, BaseOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn

import internvl_mm
from internvl_mm.engine.checkpoint import MODEL as MODEL_FILE
from internvl_mm.engine.checkpoint import (
    check_files,
    check_fit,
    frozen_names,
    get_rng,
    hash_named,
    load_hook_states,
    load_state,
    point_latest,
    read_meta,
    save_state,
)
from internvl_mm.engine.trees import load_tensors
from internvl_mm.models.convert import open_weights
from internvl_mm.models.convert.tasks import to_task
from internvl_mm.utils.errors import CheckpointError, ConfigError
from internvl_mm.utils.precision import Choice, Precision, resolve_precision
from internvl_mm.utils.states import MANIFEST, find_state, latest_state

from .launch import join_group

# Run folders of this process; mmengine keeps loggers and message hubs by this name for the life of a process.
_USED_NAMES: set[str] = set()


def _unused_name(work_dir: Path, name: str) -> str:
    """A name for a run folder that no run started in the same second has."""
    names = itertools.chain([name], (f'{name}_{number}' for number in itertools.count(1)))
    return next(name for name in names if name not in _USED_NAMES and not (work_dir / name).exists())


class StrategyMixin(BaseStrategy):
    """Comes before an mmengine strategy among the bases of ours.

    Parameters stay fp32; precision is the dtype the task's forward pass autocasts to.

    Args:
        precision: ``'auto'``, ``'fp32'``, ``'bf16'`` or ``'fp16'``; see :func:`resolve_precision`.
    """

    # Whether processes work together; if so, a single process founds a group of one.
    collective = True

    def __init__(self, *, precision: Precision = 'auto', **kwargs: Any):
        self._precision = precision
        self._frozen_hash: str | None = None
        self.precision: Choice | None = None
        super().__init__(**kwargs)

    # ---- processes and precision ----

    def _setup_env(self, *, launcher: str | None = None, dist_cfg: dict | None = None, **kwargs: Any) -> None:
        launcher = launcher or 'none'
        if self.collective:
            join_group(launcher, **(dist_cfg or {}))
        elif launcher != 'none':
            raise ConfigError(
                f'{type(self).__name__} is for one process, but launcher={launcher!r} starts several: '
                'take ddp, zero1, zero2 or zero3 from configs/_base_/strategies'
            )
        super()._setup_env(launcher=launcher, **kwargs)
        # The first process decides: clocks and file systems of several machines differ.
        names = [_unused_name(Path(self.work_dir), self._timestamp)]
        broadcast_object_list(names)
        self._timestamp = names[0]
        _USED_NAMES.add(names[0])

    @property
    def task(self) -> nn.Module:
        """The model itself, without the wrapper."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model and tell it the compute dtype."""
        model = super().build_model(model)
        # On CPUs bf16 pays only in wide models.
        width = getattr(model, 'width', None)
        self.precision = resolve_precision(self._precision, device=get_device(), width=width)
        if hasattr(model, 'set_precision'):
            model.set_precision(self.precision.dtype)
        elif self.precision.dtype != torch.float32:
            if self._precision != 'auto':
                raise ConfigError(
                    f'precision={self._precision!r}: {type(model).__name__} has no set_precision; derive it from '
                    "internvl_mm.models.tasks.BaseTask or use 'fp32'"
                )
            self.precision = Choice(torch.float32, f'{type(model).__name__} has no set_precision')
        self.logger.info(f'precision: {self.precision.name} ({self._precision}: {self.precision.reason})')
        return model

    def build_optim_wrapper(self, optim_wrapper: Any, model: nn.Module | None = None) -> BaseOptimWrapper:
        """Build the optimiser; fp16 adds loss scaling."""
        if isinstance(optim_wrapper, dict) and self.precision is not None:
            kind = optim_wrapper.get('type', OptimWrapper)
            kind = OPTIM_WRAPPERS.get(kind) if isinstance(kind, str) else kind
            # fp16 gradients underflow without loss scaling; a wrapper of the user's own is left alone.
            if self.precision.dtype == torch.float16 and kind is OptimWrapper:
                optim_wrapper = dict(optim_wrapper, type=AmpOptimWrapper, dtype='float16')
        return super().build_optim_wrapper(optim_wrapper, model)

    def _accumulation(self) -> int:
        """Batches per update."""
        # mmengine has no public name for it.
        return getattr(self.optim_wrapper, '_accumulative_counts', 1)

    def _scale_lr(self) -> None:
        """Multiply learning rates by global batch / ``auto_scale_lr.base_batch_size``, accumulation included."""
        rule = self._auto_scale_lr
        if rule is None or not rule.get('enable', True):
            return
        per_process = self.dispatch_kwargs['train_micro_batch_size_per_gpu']
        global_batch = per_process * self.world_size * self._accumulation()
        ratio = global_batch / rule['base_batch_size']
        self.logger.info(
            f'learning rates x {ratio:g}: global batch {global_batch}, base {rule["base_batch_size"]}'
        )
        # Before schedulers are built, which take these as their base values.
        for group in self.optim_wrapper.optimizer.param_groups:
            group['lr'] *= ratio

    # ---- training states ----

    def model_state_dict(self) -> dict[str, Tensor]:
        """The whole model under its own names; a sharded strategy gives it to the first process only."""
        return self.task.state_dict()

    def _own_state(self, *, optimizer: bool) -> dict[str, Any]:
        """What each process has to keep by itself."""
        return dict(rng=get_rng()) if optimizer else {}

    def save_checkpoint(
        self,
        filename: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        extra_ckpt: dict[str, Any] | None = None,
        callback: Callable[[dict], None] | None = None,
        trainable_only: bool = False,
    ) -> None:
        """Write a training state; called by every process.

        Args:
            filename: Folder of the state.
            save_optimizer: Without it the state serves as weights only: nothing can resume from it.
            save_param_scheduler: Keep learning-rate schedules.
            extra_ckpt: More trees by name, ``meta`` among them.
            callback: May change the dict before it is written (hooks).
            trainable_only: Leave frozen parameters out and keep a hash of them instead.

        Raises:
            CheckpointError: It cannot be written.
        """
        # By every process, also those that write nothing: ZeRO-3 gathers whole parameters together.
        checkpoint: dict[str, Any] = dict(extra_ckpt or {}, state_dict=self.model_state_dict())
        checkpoint['meta'] = dict(checkpoint.get('meta', {}), **self._facts())
        if save_optimizer and hasattr(self, 'optim_wrapper'):
            checkpoint['optimizer'] = self.optim_state_dict()
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            checkpoint['param_schedulers'] = self.scheduler_state_dict()
        if callback is not None:
            callback(checkpoint)
        if trainable_only:
            self._drop_frozen(checkpoint)
        # mmengine's hooks know it as state_dict; on disk it is the file of the model.
        checkpoint['model'] = checkpoint.pop('state_dict')
        folder = save_state(filename, checkpoint, self._own_state(optimizer=save_optimizer))
        # Now that all have written; weights alone are no state to resume from.
        if save_optimizer and self.rank == 0:
            point_latest(folder)

    def _facts(self) -> dict[str, Any]:
        return dict(
            seed=self.seed,
            world_size=self.world_size,
            strategy=type(self).__name__,
            time=time.strftime('%Y-%m-%d %H:%M:%S'),
            versions=dict(
                internvl_mm=internvl_mm.__version__, torch=torch.__version__, mmengine=mmengine.__version__
            ),
        )

    def _drop_frozen(self, checkpoint: dict[str, Any]) -> None:
        if self.rank != 0:
            return
        # Whole tensors are with the first process only.
        names = frozen_names(self.task)
        tensors = checkpoint['state_dict']
        # Frozen weights do not change, so that hashing them once per run is enough.
        self._frozen_hash = self._frozen_hash or hash_named(tensors, names)
        checkpoint['meta']['frozen_sha256'] = self._frozen_hash
        checkpoint['state_dict'] = {name: tensors[name] for name in tensors if name not in set(names)}

    def load_checkpoint(
        self,
        filename: str,
        *,
        map_location: Any = 'cpu',
        strict: bool = True,
        revise_keys: list | None = None,
        callback: Callable[[dict], None] | None = None,
    ) -> dict[str, Any]:
        """Load model weights only, strictly.

        Args:
            filename: A training state (or a folder that holds some: the latest counts), a ``.safetensors`` file
                with the names of the task, or published weights: of its backbone in any supported layout, or of a
                whole segmentation or detection model.
            map_location: Not used: tensors pass through the CPU.
            strict: Not used: loading is always strict.
            revise_keys: Not used.
            callback: May change the dict before it is loaded (hooks).

        Raises:
            CheckpointError: The weights do not fit; names depths, widths and shapes.
        """
        self.logger.info(f'loading weights from {filename}')
        path = Path(filename)
        state = path if (path / MANIFEST).is_file() else path.is_dir() and latest_state(path)
        if state:
            check_files(state)
            checkpoint = dict(
                load_hook_states(state), state_dict=load_tensors(state / MODEL_FILE), meta=read_meta(state)
            )
        else:
            tensors = open_weights(path)
            names = self._shapes().keys()
            # Not one name of the task: weights of a backbone alone, in somebody's layout.
            if not set(tensors) & names:
                return self._load_backbone(path)
            tensors = to_task(tensors, names, path)
            checkpoint = dict(state_dict=dict(tensors), meta={})
        if callback is not None:
            callback(checkpoint)
        self._load_weights(checkpoint['state_dict'], checkpoint['meta'], source=path)
        return checkpoint

    def _load_backbone(self, path: Path) -> dict[str, Any]:
        if not hasattr(self.task, 'backbone'):
            raise CheckpointError(
                f'{path}: no tensor has a name of {type(self.task).__name__}, which has no backbone'
            )
        with self._whole_parameters():
            self.task.backbone.load_weights(path)
        self._weights_changed()
        return dict(meta={})

    @contextlib.contextmanager
    def _whole_parameters(self) -> Any:
        """Inside, parameters of the task are whole and may be changed on every process alike."""
        yield

    def _weights_changed(self) -> None:
        """Called after weights were loaded."""

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the whole model's tensors by name."""
        return {name: tuple(tensor.shape) for name, tensor in self.task.state_dict().items()}

    def _load_weights(self, tensors: dict[str, Tensor], meta: dict[str, Any], *, source: object) -> None:
        shapes = self._shapes()
        if 'frozen_sha256' in meta:
            names = frozen_names(self.task)
            # By every process, though the first alone compares.
            own = self.model_state_dict()
            if self.rank == 0 and hash_named(own, names) != meta['frozen_sha256']:
                raise CheckpointError(
                    f'{source} holds trainable parameters only, and the frozen ones of this model are not those it was '
                    'trained with: give the backbone the same pretrained weights'
                )
            shapes = {name: shape for name, shape in shapes.items() if name not in set(names)}
        check_fit(tensors, shapes, source=source)
        with self._whole_parameters():
            # check_fit was the strict test; frozen parameters may be left out.
            self.task.load_state_dict(tensors, strict=False)
        self._weights_changed()

    def resume(
        self,
        filename: str,
        *,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: Any = 'default',
        callback: Callable[[dict], None] | None = None,
    ) -> dict[str, Any]:
        """Put model, optimiser and schedules into the state they were saved in.

        Args:
            filename: A training state, or a run folder or work_dir, whose latest counts.
            resume_optimizer: Load the optimiser.
            resume_param_scheduler: Load the schedules.
            map_location: Not used: tensors pass through the CPU.
            callback: May change the dict before it is loaded (hooks).

        Returns:
            The rest: ``meta``, ``message_hub``, ``rng`` and what hooks saved.

        Raises:
            CheckpointError: Nothing there, damaged, of another model, strategy or number of processes.
        """
        state = find_state(filename)
        self.logger.info(f'resuming from {state}')
        checkpoint = load_state(state)
        saved, own = checkpoint['meta']['strategy'], type(self).__name__
        if saved != own:
            raise CheckpointError(
                f'{state} was written by {saved} and this run uses {own}, which keep optimiser states differently: '
                f'resume with {saved}, or begin a new run from its weights with load_from'
            )
        checkpoint['state_dict'] = checkpoint.pop('model')
        if callback is not None:
            callback(checkpoint)
        self._load_weights(checkpoint.pop('state_dict'), checkpoint['meta'], source=state)
        if resume_optimizer:
            self._load_optimizer(checkpoint, state)
        if resume_param_scheduler and hasattr(self, 'param_schedulers'):
            self.load_scheduler_state_dict(checkpoint.pop('param_schedulers'))
        return checkpoint

    def _load_optimizer(self, checkpoint: dict[str, Any], state: Path) -> None:
        if 'optimizer' not in checkpoint:
            raise CheckpointError(
                f'{state} holds weights only: resume from an iter_* state, or start from it with load_from'
            )
        try:
            self.load_optim_state_dict(checkpoint.pop('optimizer'))
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f'{state}: the optimiser differs from the one that was saved ({error}): resume with the same '
                'optim_wrapper, or start from its weights with load_from'
            ) from error
        # Where in an accumulation the run stopped, which mmengine counts by iterations.
        if self._accumulation() > 1:
            self.optim_wrapper.initialize_count_status(
                self.model, checkpoint['meta']['iter'], self.dispatch_kwargs['max_iters']
            )
