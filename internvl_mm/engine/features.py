"""Features of frozen backbones: extracted once, kept on disk, shared by probes.

Shape letters: V augmented views, n images, C feature width, (1+N, D) token sequence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.dist import barrier, broadcast_object_list, get_dist_info
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets.few_shot import SubsetDataset
from internvl_mm.data.ledger import Ledger
from internvl_mm.data.samplers import SampleIndex
from internvl_mm.data.worker_signals import deafen_workers
from internvl_mm.models.tasks import BaseTask, ImageTextTask
from internvl_mm.structures import BadSample, VisionFeatures
from internvl_mm.utils.console import console, progress_bar
from internvl_mm.utils.disk import check_writable, free_space, is_full
from internvl_mm.utils.errors import ConfigError, DataError
from internvl_mm.utils.hashing import hash_buffers, hash_modules, hash_settings, hash_tensors

StoredDtype = Literal['fp32', 'bf16', 'fp16']
STORED_DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


@dataclass(frozen=True)
class FeatureSet:
    """Features of a data set.

    Attributes:
        views: Per view, features ``[n, C]`` (``[n, 1+N, D]`` for probes that train on tokens) and, alike in length,
            the position ``LongTensor[n]`` of each image in the data set.
        dataset: The data set the positions refer to, of a subset the full one; its labels are not stored twice.
        grid: Patch grid (h, w) of stored token sequences.
        extracted: Images all processes computed in this call; 0 when everything lay on disk.
    """

    views: list[tuple[Tensor, Tensor]]
    dataset: Any = field(repr=False)
    grid: tuple[int, int] = (0, 0)
    extracted: int = 0

    def labels(self, view: int = 0) -> Tensor:
        """Class of each image of a view, ``LongTensor[n]``."""
        # Labels follow the positions, which skip unreadable samples.
        return torch.from_numpy(self.dataset.targets)[self.views[view][1]]


def trains_on_tokens(task: BaseTask) -> bool:
    """Whether the probe of a task has a trainable neck, so that whole token sequences have to be kept."""
    return not isinstance(task, ImageTextTask) and any(
        parameter.requires_grad for parameter in task.neck.parameters()
    )


class WeightHashes:
    """Hashes of weights, computed again only when a tensor changed: of 6 billion parameters one takes a minute."""

    def __init__(self) -> None:
        self._known: dict[tuple, str] = {}

    def hash(self, tensors: Mapping[str, Tensor]) -> str:
        """:func:`~internvl_mm.utils.hashing.hash_tensors` of tensors that stay where they are."""
        # Torch counts the changes of a tensor's memory; the address tells tensors apart.
        key = tuple((name, each.data_ptr(), each._version, each.shape) for name, each in tensors.items())
        if key not in self._known:
            # Of a model that changed, what was known is of no more use.
            self._known = {**dict(list(self._known.items())[-3:]), key: hash_tensors(tensors)}
        return self._known[key]


def _frozen_parts(task: BaseTask) -> dict[str, tuple[str, Mapping[str, Tensor]]]:
    """Kind and tensors of each part that decides the features of a task."""
    if isinstance(task, ImageTextTask):
        return dict(image=(task.image_kind, task.image_tensors()))
    frozen: dict[str, nn.Module] = {'backbone': task.backbone}
    if not trains_on_tokens(task):
        frozen['neck'] = task.neck
    return {name: (type(part).__qualname__, part.state_dict()) for name, part in frozen.items()}


def _frozen_features(task: BaseTask, inputs: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Features ``[b, C]`` or tokens ``[b, 1+N, D]`` of pixels, and the patch grid of tokens."""
    if isinstance(task, ImageTextTask):
        return task.extract(inputs), (0, 0)
    output = task.backbone(inputs)
    return (output.tokens if trains_on_tokens(task) else task.neck(output)), output.grid


def _collate(items: list[dict[str, Any] | BadSample]) -> dict[str, Any]:
    """:func:`collate_samples`, to which a batch of bad samples alone is an error: here it is nothing to compute."""
    bad = [item for item in items if isinstance(item, BadSample)]
    if len(bad) == len(items):
        return dict(inputs=[], data_samples=[], bad_samples=bad)
    return collate_samples(items)


class FeatureCache:
    """A folder of features: one sub-folder per (weights, precision, transform, data), one below it per view.

    Files appear whole or not at all, so an interrupted extraction continues where it stopped, and any number of
    processes may share the work.

    Args:
        folder: Where the cache lives; made when needed.
        views: Augmented views per training image; evaluation data always has one.
        dtype: How features are stored. ``'fp16'`` overflows beyond 65,504: raw tokens of the 6B model can be large.
        batch_size: Images per forward pass.
        num_workers: Reading processes.
        shard_size: Images per file.
        max_fraction: Largest share of images that may be unreadable under ``on_error='skip'``; see :class:`Ledger`.
    """

    def __init__(
        self,
        folder: str = 'work_dirs/features',
        *,
        views: int = 1,
        dtype: StoredDtype = 'fp32',
        batch_size: int = 64,
        num_workers: int = 0,
        shard_size: int = 8192,
        max_fraction: float = 0.001,
    ):
        if views < 1:
            raise ConfigError(f'features.views={views}: at least one view of every image is needed')
        if not 0 <= max_fraction <= 1:
            raise ConfigError(
                f'features.max_fraction={max_fraction} is not possible: it is a share, from 0 to 1'
            )
        self.folder = Path(folder)
        self.views = views
        self.dtype = STORED_DTYPES[dtype]
        self.batch_size, self.num_workers, self.shard_size = batch_size, num_workers, shard_size
        self.max_fraction = max_fraction
        self.weights = WeightHashes()

    def settings(self, task: BaseTask, dataset: Any) -> dict[str, Any]:
        """What decides the features; its hash names the sub-folder."""
        parts = _frozen_parts(task)
        return dict(
            # By content: the same file under another name is the same, a retrained one is not.
            weights={name: self.weights.hash(tensors) for name, (_, tensors) in parts.items()},
            # Buffers, not the state: mean and standard deviation are constants that checkpoints do not hold.
            preprocessor=hash_buffers(task.data_preprocessor),
            # Equal tensors mean different things to different classes, and under different settings.
            parts={name: [kind, hash_modules(task, tensors)] for name, (kind, tensors) in parts.items()},
            # bf16 and fp32 give other features of the same weights.
            compute=str(task.autocast_dtype),
            stored=str(self.dtype),
            # Files are named by their first sample, which means nothing under another size.
            shard_size=self.shard_size,
            data=dataset.fingerprint(),
            length=len(dataset),
        )

    @torch.inference_mode()
    def extract(self, task: BaseTask, dataset: Any, *, views: int | None = None) -> FeatureSet:
        """Return the features of a data set, computing only what is not on disk.

        Args:
            task: Gives ``backbone``, ``neck`` and ``data_preprocessor``; evaluated as it is, never trained.
            dataset: A :class:`~internvl_mm.data.datasets.BaseDataset`; view v is drawn as epoch v.
            views: Number of views, by default the cache's.

        Raises:
            DataError: A sample or a stored file cannot be read, too many samples or all of them cannot, or a file
                cannot be written.
            UserError: The folder cannot be written to.
        """
        task.eval()
        settings = self.settings(task, dataset)
        # 16 hexadecimal digits: 64 bits, no two caches of one folder meet
        folder = self.folder / hash_settings(settings)[:16]
        check_writable(folder, setting='features.folder', way_out='name another')
        write_json(folder / 'settings.json', dict(settings, dataset=dataset.name))
        jobs = [
            (folder / f'view_{view:02d}' / f'{start:09d}.safetensors', view, start)
            for view in range(views or self.views)
            for start in range(0, len(dataset), self.shard_size)
        ]
        # As the first process sees it: a file that another one finishes meanwhile must not shift anybody's share.
        shared = [[job for job in jobs if not job[0].exists()]]
        broadcast_object_list(shared)
        missing = shared[0]
        rank, world_size = get_dist_info()
        # One file per process: lines that several append at once could mix.
        ledger = Ledger(folder / f'bad_samples_{os.getpid()}.jsonl', max_fraction=self.max_fraction)
        with progress_bar() as progress:
            bar = progress.add_task(f'features of {dataset.name}', total=len(missing))
            # Every world_size-th, so that views and shards spread evenly.
            for path, view, start in missing[rank::world_size]:
                stop = min(start + self.shard_size, len(dataset))
                indices = [SampleIndex(index, view) for index in range(start, stop)]
                write_shard(path, self._compute(task, dataset, indices, ledger))
                progress.advance(bar, world_size)
        if ledger.num_bad:
            console.print(f'{ledger.num_bad} samples of {dataset.name} could not be read: {ledger.path}')
        barrier()
        extracted = sum(min(self.shard_size, len(dataset) - start) for _, _, start in missing)
        return self._read(jobs, dataset, extracted)

    def _compute(
        self, task: BaseTask, dataset: Any, indices: list[SampleIndex], ledger: Ledger
    ) -> dict[str, Tensor]:
        """Features of some samples; one that could not be read under ``on_error='skip'`` goes into the ledger alone."""
        loader = DataLoader(
            dataset,
            sampler=indices,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=_collate,
        )
        deafen_workers(loader)
        # Of a file without one readable sample: no rows, whose width nobody knows. _read passes over them.
        features, positions, grid = [torch.empty(0, dtype=self.dtype)], [], (0, 0)
        for batch in loader:
            bad_samples = batch.pop('bad_samples')
            ledger.update(bad_samples, len(batch['inputs']) + len(bad_samples))
            if not len(batch['inputs']):
                continue
            data = task.data_preprocessor(batch, training=False)
            with task.autocast(data['inputs']):
                kept, grid = _frozen_features(task, data['inputs'])
            # [b, C] or [b, 1+N, D]; the device holds one batch at a time.
            features.append(kept.to(self.dtype).cpu())
            # Not the asked indices: samples left out shift them.
            positions += [sample.index for sample in data['data_samples']]
        return dict(
            # torch.cat lets an empty vector stand beside rows of any shape.
            features=torch.cat(features),
            positions=torch.tensor(positions, dtype=torch.long),
            grid=torch.tensor(grid),
        )

    def _read(self, jobs: list[tuple[Path, int, int]], dataset: Any, extracted: int) -> FeatureSet:
        views: dict[int, list[dict[str, Tensor]]] = {}
        for path, view, _ in jobs:
            shard = read_shard(path)
            if len(shard['positions']):
                views.setdefault(view, []).append(shard)
        if len(views) < len({view for _, view, _ in jobs}):
            raise _nothing_readable(jobs[0][0].parents[1], dataset)
        joined = [
            (torch.cat([s['features'] for s in shards]), torch.cat([s['positions'] for s in shards]))
            for shards in views.values()
        ]
        # The same in every file: one data set, one transform.
        height, width = views[0][0]['grid'].tolist()
        # Samples of a subset keep their index in the full data set, which has their labels under it.
        while isinstance(dataset, SubsetDataset):
            dataset = dataset.dataset
        return FeatureSet(views=joined, dataset=dataset, grid=(height, width), extracted=extracted)


def _nothing_readable(folder: Path, dataset: Any) -> DataError:
    # From the file, since another process or an earlier run may have met them.
    listed = ''.join(file.read_text('utf-8') for file in sorted(folder.glob('bad_samples_*.jsonl')))
    first = json.loads(listed.partition('\n')[0])['reason'] if listed else 'not listed any more'
    return DataError(
        f'none of the {len(dataset)} samples of {dataset.name} could be read, the first: {first}. Repair the data, '
        f'delete {folder}, where all of them are listed, and run again'
    )


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write what a cache was made from beside it."""
    path.write_text(json.dumps(value, indent=1, default=str) + '\n', encoding='utf-8')


def write_shard(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write one file of a cache, whole or not at all.

    Raises:
        DataError: It cannot be written.
    """
    # The process id keeps two runs that share a cache from writing into each other's unfinished file.
    unfinished = path.with_suffix(f'.{os.getpid()}.tmp')
    try:
        path.parent.mkdir(exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, unfinished)
        os.replace(unfinished, path)
    except (SafetensorError, OSError) as error:
        unfinished.unlink(missing_ok=True)
        why = f'the disk is full, {free_space(path)}' if is_full(error) else error
        raise DataError(
            f'feature file {path} was not written ({why}): free space, name another features.folder, or keep less with '
            "features.dtype='fp16'; run again to go on from the files that are complete"
        ) from error


def read_shard(path: Path) -> dict[str, Tensor]:
    """Read one file of a cache.

    Raises:
        DataError: It is missing or damaged.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f'feature file {path} cannot be read ({error}): delete it and run again') from error


def as_features(stored: Tensor, grid: tuple[int, int]) -> VisionFeatures:
    """Wrap stored token sequences ``[B, 1+N, D]`` for a neck."""
    return VisionFeatures(tokens=stored.float(), grid=grid)
