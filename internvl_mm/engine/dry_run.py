"""What a run will need, found out in seconds: build everything, try one tiny batch, print sizes and stop.

Parameters, optimiser states and averages are counted; what autograd keeps is measured on the tiny batch and scaled to
the configured one. From these :mod:`~internvl_mm.engine.memory` computes the peak with every strategy.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from internvl_mm.engine.hooks import EMAHook
from internvl_mm.engine.memory import (
    GIB,
    GPUS_OF_A_NODE,
    Sizes,
    StepBytes,
    held_bytes,
    plan_rows,
    print_plan,
    state_per_value,
)
from internvl_mm.engine.memory_plan import logits_bytes
from internvl_mm.engine.runner import Runner, build_runner
from internvl_mm.registry import DATASETS, FUNCTIONS
from internvl_mm.structures import BadSample, ChatSample, ImageSample
from internvl_mm.utils.console import console, print_table
from internvl_mm.utils.parameters import numel

# torch refuses options of workers where there are none
NO_WORKERS = dict(num_workers=0, persistent_workers=False, prefetch_factor=None)
TINY_BATCH = 2  # the smallest that batch norm and pairwise mixing accept
MOST_LOOKED_AT = 64  # samples among which those two are chosen


class _Enough(Exception):
    """The probe has seen its iteration."""


class Probe(Hook):
    """Watches the first training iteration, then ends the run.

    Attributes:
        activations: Bytes autograd kept for the backward pass, parameters left out.
        flops: Of the forward pass of one image.
        sizes: Samples of the training data and of every benchmark.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.activations, self.flops = 0, 0
        self.sizes: dict[str, int] = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Start to record what autograd keeps."""
        self._saved = StepBytes(runner.strategy.task)
        # By hand, because the block begins in one call of this hook and ends in another.
        self._saved.__enter__()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Stop recording, count the operations of one image, and end the run."""
        self._saved.__exit__(None, None, None)
        self.activations = self._saved.total + self._saved.inside
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
        probe = one_step(runner) if trains else _one_forward(runner, cfg)
        # Rows of the data: a packed row counts once, however many conversations it holds.
        batch_size = cfg.train_dataloader.get('batch_size', 1)
        measured = min(TINY_BATCH, batch_size)
        task = runner.strategy.task
        sizes = Sizes.of(
            task,
            state_values=state_per_value(cfg.optim_wrapper.optimizer) if trains else 0,
            # Logits exist for one chunk of tokens at a time, whatever the batch, and autograd keeps none.
            activations=probe.activations / measured * batch_size + (logits_bytes(task) if trains else 0),
            averaged=sum(
                held_bytes(hook.average.values()) for hook in runner.hooks if isinstance(hook, EMAHook)
            ),
        )
        if not is_main_process():
            return
        _print_parameters(task)
        if probe.flops:
            console.print(f'forward pass of one image: {probe.flops / 1e9:.3g} GFLOPs')
        gpus = runner.world_size
        rows = [('this run', gpus, sizes.memory(runner.strategy.sharing, gpus))]
        if trains:
            # What another strategy would bring: on the processes there are, or on a machine of GPUs.
            rows += plan_rows(sizes, [gpus if gpus > 1 else GPUS_OF_A_NODE])
        title = f'predicted peak, batch size {batch_size} (activations measured with {measured})'
        print_plan(title, rows, capacity=_capacity())
        print_table('data', ['set', 'samples'], probe.sizes.items())
    ran = 'one batch ran forward and backward' if trains else 'one image ran forward'
    console.print(f'{ran}; nothing was kept')


def one_step(runner: Runner) -> Probe:
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
    # Of the last benchmark: all go through the same model.
    probe.flops = count_flops(runner.strategy.task, next(iter(loader)))
    return probe


def tiny(cfg: Config, *, work_dir: str) -> Config:
    """A copy of a config whose run is quick and stays in ``work_dir``."""
    cfg = copy.deepcopy(cfg)
    cfg.work_dir, cfg.log_level, cfg.compile, cfg.resume = work_dir, 'WARNING', False, False
    cfg.visualizer = None  # trackers outside the work dir must not see this run
    loader = cfg.train_dataloader
    # As many as the run takes, to choose from: collate_typical leaves two of them.
    loader.update(batch_size=min(MOST_LOOKED_AT, loader.get('batch_size', 1)), **NO_WORKERS)
    own = loader.get('collate_fn') or 'pseudo_collate'
    loader.collate_fn = dict(type=collate_typical, collate=own if isinstance(own, dict) else dict(type=own))
    return cfg


def collate_typical(items: list[Any], *, collate: dict[str, Any]) -> dict[str, Any]:
    """Collate two samples that stand for the whole batch: the longest text, and about as many tiles as on average.

    Texts are padded to the longest of their batch, tiles are put one after the other, and pictures of other tasks have
    one size: half as many times these two is then what the batch keeps.

    Args:
        items: Samples of a whole batch, bad ones among them.
        collate: The config of the loader's own function.
    """
    options = dict(collate)
    kind = options.pop('type')
    put_together = partial(FUNCTIONS.get(kind) if isinstance(kind, str) else kind, **options)
    good = [item for item in items if not isinstance(item, BadSample)]
    if len(good) <= TINY_BATCH:
        return put_together(items)
    tiles = [_tiles(item) for item in good]
    longest = max(range(len(good)), key=lambda number: _text_length(good[number]))
    wanted = TINY_BATCH * sum(tiles) / len(good) - tiles[longest]  # of the other one
    others = [number for number in range(len(good)) if number != longest]
    other = min(others, key=lambda number: abs(tiles[number] - wanted))
    return put_together([good[longest], good[other]])


def _text_length(item: dict[str, Any]) -> int:
    """Tokens of a conversation, of both answers of a preference, or characters of a caption; 0 without a text."""
    chats = _chats(item)
    if chats:
        return max(len(chat) for chat in chats)
    sample = item.get('data_samples')
    return len(sample.caption) if isinstance(sample, ImageSample) and 'caption' in sample else 0


def _tiles(item: dict[str, Any]) -> int:
    return sum(len(chat.tiles) for chat in _chats(item))


def _chats(item: dict[str, Any]) -> list[ChatSample]:
    inputs = item['inputs']
    return [
        part for part in (inputs if isinstance(inputs, list) else [inputs]) if isinstance(part, ChatSample)
    ]


def count_flops(task: nn.Module, batch: Mapping[str, Any]) -> int:
    """Operations of the forward pass of a batch, two per multiply-add, as torch counts them."""
    training, trains = (
        task.training,
        [parameter for parameter in task.parameters() if parameter.requires_grad],
    )
    task.eval()
    # torch's counter asks every input that requires gradients for its graph, and views of parameters have none here.
    for parameter in trains:
        parameter.requires_grad_(False)
    # torch counts no operations of its fused attention on CPUs: take the plain products
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        task.test_step(dict(batch))
    for parameter in trains:
        parameter.requires_grad_(True)
    task.train(training)
    return counter.get_total_flops()


def _capacity() -> float | None:
    """GiB of the GPU this process uses; ``None`` without one."""
    return torch.cuda.get_device_properties().total_memory / GIB if torch.cuda.is_available() else None


def _print_parameters(task: nn.Module) -> None:
    rows = []
    for name, part in [*task.named_children(), ('total', task)]:
        parameters = list(part.parameters())
        if parameters:
            trainable = sum(numel(parameter) for parameter in parameters if parameter.requires_grad)
            rows.append((name, type(part).__name__, f'{trainable:,}', f'{sum(map(numel, parameters)):,}'))
    print_table('parameters', ['part', 'class', 'trainable', 'total'], rows)
