"""A run small enough for tests: random images, a two-block ViT with drop path and a head with batch norm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.optim import SGD, AdamW
from torch.utils.data import Dataset

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.samplers import EpochSampler, EvalSampler
from internvl_mm.data.seeding import seeded
from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.engine.optim import CosineAbsolute
from internvl_mm.evaluation.metrics import Accuracy
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import ClsPatchConcat
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.registry import DATASETS
from internvl_mm.structures import ImageSample

OPTIMIZERS = dict(
    adamw=dict(type=AdamW, lr=1e-3, weight_decay=0.05), sgd=dict(type=SGD, lr=0.1, momentum=0.9)
)


@DATASETS.register_module(force=True)
class TinyImages(Dataset):
    """Images of noise whose brightness tells the class; every epoch draws new noise."""

    metainfo = dict(dataset='tiny', classes=('dark', 'middle', 'bright'))

    def __init__(self, length: int = 20):
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        label = int(index) % 3
        with seeded(getattr(index, 'seed', 0), getattr(index, 'epoch', 0), int(index)):
            inputs = torch.randint(60 * label, 60 * label + 100, (3, 28, 28), dtype=torch.uint8)
        return dict(inputs=inputs, data_samples=ImageSample.labelled(label, dataset='tiny', index=int(index)))


class LossRecorder(Hook):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.losses.append(outputs['loss'].item())


class SaveAt(Hook):
    """Writes a training state after some iterations and stops there, or goes on."""

    priority = 'VERY_LOW'

    def __init__(self, iteration: int, *, stop: bool = True, **options: Any):
        self.iteration, self.stop, self.options = iteration, stop, options

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if runner.iter + 1 == self.iteration:
            name = f'iter_{self.iteration:06d}'
            runner.save_checkpoint(str(runner.checkpoint_dir), name, by_epoch=False, **self.options)
            if self.stop:
                raise StopTraining


class StopTraining(Exception):
    """What a killed process would be."""


def tiny_model(
    *, width: int = 32, depth: int = 2, drop_path: float = 0.2, frozen: Any = None
) -> dict[str, Any]:
    """Config of a small classifier."""
    backbone = dict(
        type=InternViT,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=2,
        intermediate_size=2 * width,
        image_size=28,
        drop_path_rate=drop_path,
        initializer_factor=1.0,
        frozen=frozen,
    )
    return dict(
        type=ImageClassifier,
        backbone=backbone,
        neck=dict(type=ClsPatchConcat),
        head=dict(type=LinearClsHead, num_classes=3),
        data_preprocessor=dict(type=ImageDataPreprocessor),
    )


def loader(*, length: int, batch_size: int, sampler: type, workers: int = 0) -> dict[str, Any]:
    """Config of a data loader over tiny images."""
    return dict(
        dataset=dict(type=TinyImages, length=length),
        sampler=dict(type=sampler),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=dict(type=collate_samples),
    )


def tiny_config(
    work_dir: Path | str, *, optimizer: str = 'adamw', workers: int = 0, **changes: Any
) -> dict[str, Any]:
    """A whole config: 5 iterations per epoch of 4 samples, 2 epochs, one benchmark that is not evaluated meanwhile."""
    config = dict(
        model=tiny_model(),
        work_dir=str(work_dir),
        train_dataloader=loader(length=20, batch_size=4, sampler=EpochSampler, workers=workers),
        optim_wrapper=dict(type=OptimWrapper, optimizer=OPTIMIZERS[optimizer], clip_grad=dict(max_norm=1.0)),
        param_scheduler=[dict(type=CosineAbsolute, warmup=1, by_epoch=True, convert_to_iter_based=True)],
        train_cfg=dict(type=EpochTrainLoop, max_epochs=2),
        benchmarks=dict(
            tiny=dict(
                dataloader=loader(length=7, batch_size=2, sampler=EvalSampler),
                metrics=[dict(type=Accuracy, topk=(1,))],
            )
        ),
        val_benchmarks=[],
        default_hooks=dict(logger=None),
        randomness=dict(seed=0),
        log_level='ERROR',
    )
    return dict(config, **changes)


def parameters_of(runner: Any) -> dict[str, Tensor]:
    """Copies of all tensors of the task."""
    return {name: tensor.clone() for name, tensor in runner.strategy.model_state_dict().items()}
