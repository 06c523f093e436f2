"""Training states of a strategy: what each process writes, and how it is taken up again, without pickle."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine._strategy import BaseStrategy
from mmengine.dist import broadcast_object_list
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

import internvl_mm
from internvl_mm.engine.checkpoint import (
    FROZEN,
    check_fit,
    frozen_differ,
    frozen_names,
    get_rng,
    load_hook_states,
    load_model,
    load_state,
    point_latest,
    read_meta,
    render_state,
)
from internvl_mm.engine.partition import Segment, convert_state
from internvl_mm.engine.savers import Saver
from internvl_mm.models.convert import open_weights
from internvl_mm.models.convert.tasks import to_task
from internvl_mm.utils.errors import CheckpointError
from internvl_mm.utils.hashing import hash_tensors
from internvl_mm.utils.parameters import local_part
from internvl_mm.utils.states import find_state, sound_state


class StateMixin(BaseStrategy):
    """Saves, loads and resumes; the states of an optimiser are converted between strategies and process counts."""

    _frozen_hash: str | None = None  # of the frozen parameters, which are hashed once per run

    @property
    def task(self) -> nn.Module:
        """The model itself, without the wrapper."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def _accumulation(self) -> int:
        """Batches per update."""
        # mmengine has no public name for it.
        return getattr(self.optim_wrapper, '_accumulative_counts', 1)

    def model_state_dict(self) -> dict[str, Tensor]:
        """The whole model under its own names; a sharded strategy gives it to the first process only."""
        return self.task.state_dict()

    def _shared_optimizer_state(self) -> dict[str, Any]:
        """What the first process writes of the optimiser: all of it, where every process has whole parameters."""
        state = self.optim_state_dict()
        if isinstance(
            self.optim_wrapper, OptimWrapper
        ):  # not of several optimisers, which stay with their strategy
            with self._inner_optimizer() as inner:
                state = dict(state, segments=[list(segment) for segment in self._segments(inner)])
        return state

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
        saver: Saver | None = None,
        done: Callable[[Path], None] | None = None,
    ) -> None:
        """Write a training state; called by every process.

        Args:
            filename: Folder of the state.
            save_optimizer: Without it the state serves as weights only: nothing can resume from it.
            save_param_scheduler: Keep learning-rate schedules.
            extra_ckpt: More trees by name, ``meta`` among them.
            callback: May change the dict before it is written (hooks).
            trainable_only: Leave frozen parameters out and keep a hash of them instead.
            saver: How the files get to the disk; at once when left out.
            done: Called by the first process once the state is on the disk.

        Raises:
            CheckpointError: It cannot be written.
        """
        frozen = frozen_names(self.task) if trainable_only else []
        checkpoint: dict[str, Any] = dict(extra_ckpt or {}, state_dict=self._written_tensors(set(frozen)))
        checkpoint['meta'] = dict(checkpoint.get('meta', {}), **self._facts())
        if trainable_only:
            # Frozen weights do not change, so that hashing them once per run is enough.
            self._frozen_hash = self._frozen_hash or self._hash(frozen)
            checkpoint['meta'][FROZEN] = self._frozen_hash
        if save_optimizer and hasattr(self, 'optim_wrapper'):
            checkpoint['optimizer'] = self._shared_optimizer_state()
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            checkpoint['param_schedulers'] = self.scheduler_state_dict()
        if callback is not None:
            callback(checkpoint)
        # mmengine's hooks know it as state_dict; on disk it is the file of the model.
        checkpoint['model'] = checkpoint.pop('state_dict')
        files = render_state(checkpoint, self._own_state(optimizer=save_optimizer))

        def complete(folder: Path) -> None:
            # Only now: all have written. Weights alone are no state to resume from.
            if save_optimizer:
                point_latest(folder)
            if done is not None:
                done(folder)

        (saver or Saver()).save(Path(filename), files, complete)

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

    def _written_tensors(self, left_out: Collection[str]) -> dict[str, Tensor]:
        """What goes to the disk of the model, of live parameters; the first process writes it."""
        # Forward passes change buffers, while savers may still read: copies, which are small.
        buffers = {name for name, _ in self.task.named_buffers(remove_duplicate=False)}
        tensors = {name: tensor for name, tensor in self.task.state_dict().items() if name not in left_out}
        return {name: tensor.clone() if name in buffers else tensor for name, tensor in tensors.items()}

    def _hash(self, names: Collection[str]) -> str | None:
        """Content hash of whole tensors of the model; ``None`` beside the first process, where all have the same."""
        own = self.task.state_dict()
        return None if self.rank else hash_tensors({name: own[name] for name in names})

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
            filename: A training state (or a folder that holds some: the latest undamaged one), a ``.safetensors`` file
                with the names of the task, or published weights: of its backbone in any supported layout, or of a
                whole model (segmentation, detection, a probe with its ViT, InternVL-C, InternVL-14B).
            map_location: Not used: tensors pass through the CPU.
            strict: Not used: loading is always strict.
            revise_keys: Not used.
            callback: May change the dict before it is loaded (hooks).

        Raises:
            CheckpointError: The weights do not fit; names depths, widths and shapes.
        """
        self.logger.info(f'loading weights from {filename}')
        # Three kinds of sources: a state of ours, weights with the task's names, weights of a backbone alone.
        path = Path(filename)
        state = sound_state(path) if path.is_dir() else None
        if state is not None:
            checkpoint = dict(load_hook_states(state), state_dict=load_model(state), meta=read_meta(state))
        else:
            names = self.tensor_shapes().keys()
            tensors = to_task(open_weights(path), names, path)
            # Not one name of the task: weights of a backbone alone, in somebody's layout.
            if not set(tensors) & names:
                return self._load_backbone(path)
            checkpoint = dict(state_dict=tensors, meta={})
        if callback is not None:
            callback(checkpoint)
        self._load_weights(checkpoint['state_dict'], checkpoint['meta'], source=path)
        return checkpoint

    def _load_backbone(self, path: Path) -> dict[str, Any]:
        # The ViT of an InternVL-14B is a part of its model, which is read as a whole.
        if not hasattr(getattr(self.task, 'backbone', None), 'load_weights'):
            raise CheckpointError(
                f'{path}: no tensor has a name of {type(self.task).__name__}, which has no backbone of its own to load'
            )
        self.task.backbone.load_weights(path)
        self._weights_changed()
        return dict(meta={})

    def _weights_changed(self) -> None:
        """Called after weights were loaded."""

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the whole model's tensors by name."""
        return {name: tuple(tensor.shape) for name, tensor in self.task.state_dict().items()}

    def _load_weights(self, tensors: Mapping[str, Tensor], meta: dict[str, Any], *, source: object) -> None:
        shapes = self.tensor_shapes()
        if FROZEN in meta:
            names = frozen_names(self.task)
            self._check_frozen(names, meta, source=source)
            shapes = {name: shape for name, shape in shapes.items() if name not in set(names)}
        check_fit(tensors, shapes, source=source)
        self._assign(tensors)
        self._weights_changed()

    def _assign(self, tensors: Mapping[str, Tensor]) -> None:
        """Put whole tensors into the task."""
        # check_fit was the strict test; frozen parameters may be left out.
        self.task.load_state_dict(tensors, strict=False)

    def _check_frozen(self, names: list[str], meta: dict[str, Any], *, source: object) -> None:
        """Compare the frozen parameters with those a state was trained beside, after getting them if need be."""
        start = meta.get('frozen_from', {}).get('load_from')
        # Hashing a frozen 6B takes a minute, so load_from is read only when it is needed.
        if not self._has_frozen(names, meta) and start and Path(start).exists():
            # Neither the constructor nor the state has them: they came with the weights training started from.
            self.load_checkpoint(start)
        if not self._has_frozen(names, meta):
            raise frozen_differ(source, meta)

    def _has_frozen(self, names: list[str], meta: dict[str, Any]) -> bool:
        # The first process compares, for all.
        same = [self._hash(names) == meta[FROZEN]]
        broadcast_object_list(same)
        return same[0]

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
        # The name under which mmengine's hooks look for it.
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
        saved, meta = checkpoint.pop('optimizer'), checkpoint['meta']
        shard = checkpoint.pop('shard', None)
        try:
            if self._fits(meta, saved):
                self._load_own_optimizer(saved, shard)
            else:
                self.logger.warning(
                    f'{state} was written by {meta["world_size"]} processes with {meta["strategy"]}: its optimiser '
                    f'state is put together and cut for {self.world_size} with {type(self).__name__}'
                )
                self._load_converted_optimizer(state, meta)
        # torch says with a ValueError that groups differ; a KeyError is a shard or a parameter that is not there.
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f'{state}: the optimiser differs from the one that was saved ({error}): resume with the same '
                'optim_wrapper, or start from its weights with load_from'
            ) from error
        # Where in an accumulation the run stopped, which mmengine counts by iterations.
        if self._accumulation() > 1:
            lost = meta['iter'] % self._accumulation()
            if lost and meta['iter'] < self.dispatch_kwargs['max_iters']:
                self.logger.warning(
                    f'{state} was written after {lost} of the {self._accumulation()} batches of an update, whose '
                    'gradients it does not hold: the update is made of the others'
                )
            self.optim_wrapper.initialize_count_status(
                self.model, meta['iter'], self.dispatch_kwargs['max_iters']
            )

    def _fits(self, meta: dict[str, Any], saved: dict[str, Any]) -> bool:
        """Whether a saved optimiser is cut as this one is; whole parameters are, on any number of processes."""
        # What DeepSpeedStrategy and FSDPStrategy write beside an optimiser they have cut.
        return not {'zero_stage', 'layout'} & set(saved)

    def _load_own_optimizer(self, saved: dict[str, Any], shard: dict[str, Any] | None) -> None:
        # Of use to strategies that cut otherwise; here every tensor is a whole parameter.
        saved.pop('segments', None)
        self.load_optim_state_dict(saved)

    def _load_converted_optimizer(self, state: Path, meta: dict[str, Any]) -> None:
        with self._inner_optimizer() as inner:
            numbered = enumerate(p for group in inner.param_groups for p in group['params'])
            converted = convert_state(
                state,
                segments=self._segments(inner),
                # Of this process's tensors, which the states have to fit.
                shapes={index: tuple(local_part(tensor).shape) for index, tensor in numbered},
                # Values of whole parameters, which the states are put together to first.
                sizes={name: math.prod(shape) for name, shape in self.tensor_shapes().items()},
                groups=inner.state_dict()['param_groups'],
            )
            self._load_inner(inner, converted)

    @contextlib.contextmanager
    def _inner_optimizer(self) -> Iterator[torch.optim.Optimizer]:
        """The torch optimiser of this process, its parameter groups filled."""
        yield self.optim_wrapper.optimizer

    def _load_inner(self, inner: torch.optim.Optimizer, state_dict: dict[str, Any]) -> None:
        inner.load_state_dict(state_dict)

    def _segments(self, inner: torch.optim.Optimizer) -> list[Segment]:
        """Which values of which parameters the tensors of this process's optimiser hold; here, whole ones."""
        names = {id(parameter): name for name, parameter in self.task.named_parameters()}
        tensors = [parameter for group in inner.param_groups for parameter in group['params']]
        return [
            Segment(index, 0, names[id(tensor)], 0, tensor.numel()) for index, tensor in enumerate(tensors)
        ]
