"""Arguments of constructors, followed through keywords."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from mmengine.hooks import CheckpointHook
from mmengine.optim import CosineAnnealingLR
from torch import nn

from internvl_mm.engine.config.signatures import EMPTY, signature_of, words_of
from internvl_mm.engine.config.values import value_problems


class Base:
    def __init__(self, path: str, *, size: int = 1, kind: str):
        pass


class PassesOn(Base):
    def __init__(self, extra: float, **kwargs: Any):
        super().__init__('fixed', kind='fixed', **kwargs)


class PassesByName(Base):
    def __init__(self, *, extra: float = 0.0, **kwargs: Any):
        Base.__init__(self, **kwargs)


class KeepsThem(nn.Module):
    def __init__(self, width: int, **kwargs: Any):
        super().__init__()
        self.options = kwargs


class ToModule(nn.Module):
    def __init__(self, width: int, **kwargs: Any):
        super().__init__(**kwargs)


def test_plain_constructor() -> None:
    signature = signature_of(Base)
    assert list(signature.arguments) == ['path', 'size', 'kind']
    assert signature.required == {'path', 'kind'}
    assert (signature.arguments['size'].annotation, signature.arguments['size'].default) == (int, 1)
    assert not signature.open


def test_parent_arguments_that_the_child_fills_in_are_gone() -> None:
    signature = signature_of(PassesOn)
    assert set(signature.arguments) == {'extra', 'size'}
    assert signature.required == {'extra'}


def test_parent_arguments_through_an_explicit_call() -> None:
    signature = signature_of(PassesByName)
    assert set(signature.arguments) == {'extra', 'path', 'size', 'kind'}
    assert signature.required == {'path', 'kind'}


def test_keywords_that_go_elsewhere_leave_a_signature_open() -> None:
    assert signature_of(KeepsThem).open
    assert not signature_of(ToModule).open  # nn.Module would refuse them


def test_libraries() -> None:
    scheduler = signature_of(
        CosineAnnealingLR
    )  # three levels of *args, **kwargs; the name is passed by position
    assert {'T_max', 'eta_min', 'begin', 'end', 'by_epoch', 'optimizer'} <= set(scheduler.arguments)
    assert 'param_name' not in scheduler.arguments
    assert not scheduler.open
    assert {'lr', 'betas', 'weight_decay'} <= set(signature_of(torch.optim.AdamW).arguments)
    assert 'save_best' in signature_of(CheckpointHook).arguments


def test_functions_and_dataclasses() -> None:
    @dataclass
    class Options:
        size: int
        name: str = ''

    assert signature_of(Options).required == {'size'}
    norm = signature_of(nn.utils.clip_grad_norm_)
    assert 'max_norm' in norm.arguments
    assert not norm.required  # it is called later, with more arguments
    assert signature_of(dict).open  # written in C, without a signature


def test_annotations_for_type_checkers_only_are_left_out() -> None:
    class Lazy:
        def __init__(self, size: NotThere = 1):  # noqa: F821
            pass

    assert signature_of(Lazy).arguments['size'].annotation is EMPTY


def test_annotations_of_openmmlab_libraries_are_read_loosely() -> None:
    from mmcv.ops import RoIAlign
    from mmdet.models.task_modules import AnchorGenerator

    found = signature_of(AnchorGenerator).arguments['strides'].annotation
    assert value_problems([3.5, 7.0], found, 'strides') == []
    assert value_problems('four', found, 'strides')
    assert value_problems(7, signature_of(RoIAlign).arguments['output_size'].annotation, 'size') == []


def test_words_that_nothing_reads_are_known_for_their_plain_dicts_only() -> None:
    from mmdet.models.detectors import ATSS

    words = words_of(ATSS)
    assert {'max_per_img', 'pos_fraction', 'iou_threshold'} <= words and 'max_perq_img' not in words
    assert words_of(nn.Linear) is None
