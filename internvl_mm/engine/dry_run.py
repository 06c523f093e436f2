"""What a run will need, found out in seconds: build everything, try one tiny batch, print sizes and stop.

Memory per process = weights + gradients + optimizer state + averaged weights + activations:

* weights and gradients: bytes of (trainable) parameters in the dtype they are held in;
* optimizer state: values the optimizer keeps per trainable parameter (two for AdamW), in fp32;
* ZeRO over n processes divides the optimizer state (stage 1), also gradients (2), also weights (3) by n; offloading
  moves the optimizer state, in stage 3 also the weights, to the host's memory;
* activations: what autograd keeps for the backward pass of the tiny batch, scaled to the configured batch size.

Workspaces of kernels, the allocator's slack and communication buffers come on top.

Source: Rajbhandari et al. 2020, "ZeRO", section 3.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from internvl_mm.engine.hooks import EMAHook
from internvl_mm.engine.runner import Runner, build_runner
from internvl_mm.registry import DATASETS
from internvl_mm.utils.console import console, print_table
from internvl_mm.utils.parameters import numel

# torch refuses options of workers where there are none
NO_WORKERS = dict(num_workers=0, persistent_workers=False, prefetch_factor=None)
TINY_BATCH = 2  # the smallest that batch norm and pairwise mixing accept


@dataclass(frozen=True)
class Memory:
    """Estimated bytes per process. ``host`` is what offloading moves to the CPU's memory; the rest is the device's."""

    weights: float
    gradients: float
    optimizer: float
    averaged: float
    activations: float
    host: float = 0.0

    @property
    def device(self) -> float:
        """Everything on the device."""
        return self.weights + self.gradients + self.optimizer + self.averaged + self.activations


class _Enough(Exception):
    """The probe has seen its iteration."""


class SavedBytes:
    """Counts what autograd keeps inside a ``with`` block: every storage once, those of a module's parameters not.

    Attributes:
        total: Bytes.
    """

    def __init__(self, module: nn.Module):
        self.total = 0
        # Storages by identity, however many views of them are kept; fake tensors have no addresses.
        self._seen = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
        self._hooks = saved_tensors_hooks(self._record, lambda tensor: tensor)

    def _record(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self.total += storage.nbytes()
        return tensor

    def __enter__(self) -> SavedBytes:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)


class Probe(Hook):
    """Watches the first training iteration, then ends the run.

    Attributes:
        activations: Bytes autograd kept for the backward pass, parameters left out.
        images: Images in the batch.
        flops: Of the forward pass of one image.
        sizes: Samples of the training data and of every benchmark.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.activations, self.images, self.flops = 0, 0, 0
        self.sizes: dict[str, int] = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Start to record what autograd keeps."""
        self._saved = SavedBytes(runner.strategy.task)
        self._saved.__enter__()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stop recording, count the operations of one image, and end the run."""
        self._saved.__exit__(None, None, None)
        self.activations = self._saved.total
        self.images = len(data_batch['inputs'])
        if not hasattr(data_batch['inputs'], '__getitem__'):
            raise _Enough  # conversations differ too much in length for one to stand for all
        # Lists of one sample each: counting a batch would cost a batch.
        one = {key: value[:1] for key, value in data_batch.items() if key in ('inputs', 'data_samples')}
        self.flops = count_flops(runner.strategy.task, one)
        # The only way out of mmengine's loop that skips evaluation and saving.
        raise _Enough


def dry_run(cfg: Config) -> None:
    """Build a run, take one tiny batch in a temporary folder, and print what the real run will need.

    Args:
        cfg: Checked config; it is not changed. Without ``optim_wrapper`` it runs a frozen model (probes on cached
            features): one image then goes forward only.
    """
    with TemporaryDirectory() as folder:
        runner = build_runner(tiny(cfg, work_dir=folder))
        trains = cfg.get('optim_wrapper') is not None
        probe = _one_step(runner) if trains else _one_forward(runner, cfg)
        batch_size = cfg.train_dataloader.get('batch_size', 1)
        memory = estimate_memory(
            runner.strategy.task,
            state_values=state_per_value(cfg.optim_wrapper.optimizer) if trains else 0,
            activations=probe.activations / probe.images * batch_size,
            zero_stage=getattr(runner.strategy, 'zero_stage', 0),
            offload=(cfg.get('strategy') or {}).get('offload', False),
            world_size=runner.world_size,
            averaged=sum(
                held_bytes(hook.average.values()) for hook in runner.hooks if isinstance(hook, EMAHook)
            ),
        )
        if not is_main_process():
            return
        _report(runner.strategy.task, probe, memory, batch_size=batch_size, world_size=runner.world_size)
        print_table('data', ['set', 'samples'], probe.sizes.items())
    ran = 'one batch ran forward and backward' if trains else 'one image ran forward'
    console.print(f'{ran}; nothing was kept')


def _one_step(runner: Runner) -> Probe:
    """Train for one batch, as the runner does it."""
    probe = Probe()
    runner.register_hook(probe)
    try:
        runner.train()
    except _Enough:
        pass
    loaders = {'train': runner.train_dataloader}
    if runner.val_loop is not None:
        loaders |= runner.val_loop.loaders
    probe.sizes = {name: len(loader.dataset) for name, loader in loaders.items()}
    return probe


def _one_forward(runner: Runner, cfg: Config) -> Probe:
    """Run one image of a benchmark through the model; autograd keeps nothing."""
    probe = Probe()
    runner.strategy.prepare(runner.model, dispatch_kwargs={})
    probe.sizes['train'] = len(DATASETS.build(cfg.train_dataloader.dataset))
    for name, benchmark in cfg.benchmarks.items():
        loader = runner.build_dataloader({**benchmark.dataloader, 'batch_size': 1, **NO_WORKERS})
        probe.sizes[name] = len(loader.dataset)
    probe.images, probe.flops = 1, count_flops(runner.strategy.task, next(iter(loader)))
    return probe


def tiny(cfg: Config, *, work_dir: str) -> Config:
    """A copy of a config whose run is quick and stays in ``work_dir``."""
    cfg = copy.deepcopy(cfg)
    cfg.work_dir, cfg.log_level, cfg.compile, cfg.resume = work_dir, 'WARNING', False, False
    cfg.visualizer = None  # trackers outside the work dir must not see this run
    loader = cfg.train_dataloader
    loader.update(batch_size=min(TINY_BATCH, loader.get('batch_size', 1)), **NO_WORKERS)
    return cfg


def count_flops(task: nn.Module, batch: Mapping[str, Any]) -> int:
    """Operations of the forward pass of a batch, two per multiply-add, as torch counts them."""
    training = task.training
    task.eval()
    # torch counts no operations of its fused attention on CPUs: take the plain products
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        task.test_step(dict(batch))
    task.train(training)
    return counter.get_total_flops()


def state_per_value(optimizer: Mapping[str, Any]) -> float:
    """How many values an optimizer keeps per parameter value: 2 for AdamW, 1 for SGD with momentum.

    Args:
        optimizer: Its config; it is built for one small parameter and stepped once.
    """
    # A matrix: some optimisers (Adafactor, Muon) treat vectors otherwise.
    parameter = nn.Parameter(torch.zeros(64, 64))
    built = OPTIMIZERS.build({**optimizer, 'params': [parameter]})
    parameter.grad = torch.ones_like(parameter)
    built.step()
    state = built.state[parameter].values()
    return (
        # Scalars such as Adam's step count are nothing beside the rest.
        sum(value.numel() for value in state if isinstance(value, Tensor) and value.ndim) / parameter.numel()
    )


def estimate_memory(
    task: nn.Module,
    *,
    state_values: float,
    activations: float,
    zero_stage: int = 0,
    offload: bool = False,
    world_size: int = 1,
    averaged: float = 0.0,
) -> Memory:
    """Apply the formula of this module.

    Args:
        task: Its parameters count.
        state_values: See :func:`state_per_value`.
        activations: Bytes for the whole batch of one process.
        zero_stage: 0 shares nothing.
        offload: Whether ZeRO offloads.
        world_size: Processes that share.
        averaged: Bytes of averaged weights.
    """
    trainable = [parameter for parameter in task.parameters() if parameter.requires_grad]
    weights = held_bytes(task.parameters()) / (world_size if zero_stage >= 3 else 1)
    gradients = held_bytes(trainable) / (world_size if zero_stage >= 2 else 1)
    # 4 bytes: states are fp32 in every precision.
    optimizer = 4 * state_values * sum(map(numel, trainable)) / (world_size if zero_stage >= 1 else 1)
    host = 0.0
    if offload:
        host, optimizer = optimizer, 0.0
    if offload and zero_stage >= 3:
        host, weights = host + weights, 0.0
    return Memory(weights, gradients, optimizer, averaged, activations, host)


def held_bytes(parameters: Iterable[Tensor]) -> int:
    """Bytes of whole parameters (or averages of them) in their own dtypes."""
    return sum(numel(parameter) * parameter.element_size() for parameter in parameters)


def _report(task: nn.Module, probe: Probe, memory: Memory, *, batch_size: int, world_size: int) -> None:
    rows = []
    for name, part in [*task.named_children(), ('total', task)]:
        parameters = list(part.parameters())
        if parameters:
            trainable = sum(numel(parameter) for parameter in parameters if parameter.requires_grad)
            rows.append((name, type(part).__name__, f'{trainable:,}', f'{sum(map(numel, parameters)):,}'))
    print_table('parameters', ['part', 'class', 'trainable', 'total'], rows)
    if probe.flops:
        console.print(f'forward pass of one image: {probe.flops / 1e9:.3g} GFLOPs')
    shared = f', {world_size} processes' if world_size > 1 else ''
    print_table(
        f'estimated memory per process (batch size {batch_size}{shared})',
        ['what', 'MiB'],
        [
            ('weights', memory.weights / 2**20),
            ('gradients', memory.gradients / 2**20),
            ('optimizer state', memory.optimizer / 2**20),
            ('averaged weights', memory.averaged / 2**20),
            (f'activations ({probe.images} measured, {batch_size} estimated)', memory.activations / 2**20),
            ('device in total', memory.device / 2**20),
            ('host (offloaded)', memory.host / 2**20),
        ],
    )
