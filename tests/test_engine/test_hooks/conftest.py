"""A tiny classifier on random pictures under mmengine's runner, to try hooks one by one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import FlexibleRunner
from torch.utils.data import DataLoader

from internvl_mm.data.collate import collate_samples
from internvl_mm.models.backbones import InternViT
from internvl_mm.models.heads import LinearClsHead
from internvl_mm.models.necks import ClsPatchConcat
from internvl_mm.models.tasks import ImageClassifier
from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.structures import ImageSample

MakeRunner = Callable[..., FlexibleRunner]


def pictures(count: int) -> list[dict[str, Any]]:
    """Random 28-pixel pictures of four classes."""
    generator = torch.Generator().manual_seed(0)
    return [
        dict(
            inputs=torch.randint(0, 256, (3, 28, 28), dtype=torch.uint8, generator=generator),
            data_samples=ImageSample.labelled(index % 4, dataset='noise', index=index, path=f'{index}.png'),
        )
        for index in range(count)
    ]


def tiny_task(frozen: str | None = None) -> ImageClassifier:
    """One block, width 16, batch norm in the head."""
    torch.manual_seed(0)
    return ImageClassifier(
        backbone=InternViT(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=28,
            frozen=frozen,
        ),
        neck=dict(type=ClsPatchConcat),
        head=dict(type=LinearClsHead, num_classes=4),
        data_preprocessor=ImageDataPreprocessor(),
    )


@pytest.fixture
def make_runner(tmp_path: Path) -> MakeRunner:
    """Build a runner of a few iterations with the given hooks, three samples per batch."""

    def make(
        *hooks: Any, task: Any = None, samples: list[Any] | None = None, iterations: int = 3, **settings: Any
    ) -> FlexibleRunner:
        loader = DataLoader(samples or pictures(9), batch_size=3, collate_fn=collate_samples)
        return FlexibleRunner(
            model=task or tiny_task(),
            work_dir=str(tmp_path),
            # runners of one name share their scalars
            experiment_name=uuid.uuid4().hex,
            train_dataloader=loader,
            train_cfg=dict(by_epoch=False, max_iters=iterations),
            optim_wrapper=dict(optimizer=dict(type=torch.optim.SGD, lr=0.1), **settings),
            default_hooks=dict(checkpoint=None),
            custom_hooks=list(hooks),
            log_level='WARNING',
        )

    return make
