"""Object detection and instance segmentation: detectors of mmdetection on our backbones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.utils import get_object_from_string
from torch import Tensor, nn

from internvl_mm.registry import MODELS
from internvl_mm.utils.errors import ConfigError, DataError

from .base import BaseTask, Part, build_part

# The proposal network tells objects from background, whatever the classes are.
_WITHOUT_CLASSES = 'rpn_head'


@MODELS.register_module()
class Detector(BaseTask):
    """A detector of mmdetection (Mask R-CNN, Cascade Mask R-CNN, ATSS, DINO, ...) around our backbone and pyramid.

    Parameters have the names mmdetection gives them (``backbone.*``, ``neck.*``, ``rpn_head.*``, ``roi_head.*``,
    ``bbox_head.*``), so whole checkpoints go both ways. The backbone computes in the precision of the strategy; what
    follows it (neck, heads, operators, losses) computes in fp32, as published.

    Args:
        backbone: Pixels to features with ``maps``, a :class:`~internvl_mm.models.backbones.BaseBackbone`.
        neck: Features to a pyramid, a :class:`~internvl_mm.models.necks.PyramidNeck`, whose ``dim`` may be left out;
            or a list of such a neck and mmdetection's that follow it, such as ``FPN``.
        detector: Config of mmdetection's detector without backbone, neck and data preprocessor.
        classes: Names of the classes in the order of the heads; those of the training data when left out.
        data_preprocessor: mmdetection's ``DetDataPreprocessor``, with the patch size as ``pad_size_divisor``.

    Raises:
        ConfigError: Heads that differ in the number of classes, or whose strides are not those of the neck.
    """

    fills = {
        'neck': ('dim',),
        'detector': ('backbone', 'neck'),
    }  # arguments of parts that a config may leave out

    def __init__(
        self,
        *,
        backbone: Part,
        neck: Part | Sequence[nn.Module | dict],
        detector: BaseDetector | dict,
        classes: Sequence[str] | None = None,
        data_preprocessor: Part = None,
    ):
        # Names inside of mmdetection's configs ('AnchorGenerator') are looked up in its scope.
        with DefaultScope.overwrite_default_scope('mmdet'):
            super().__init__(data_preprocessor=data_preprocessor)
            built = build_part(backbone)
            parts = dict(backbone=built, neck=_build_neck(neck, built.width))
            # Their constructors write into the config, and read it by attributes.
            config = ConfigDict(_with_classes(detector))
            # Their constructor builds these by config, and ours are built: what builds them hands them back.
            config.update({name: dict(type=_as_it_is, part=part) for name, part in parts.items()})
            theirs: BaseDetector = MODELS.build(config)
        # Not as a child, which would put a prefix before every name: the task takes over its children instead.
        self.__dict__['_detector'] = theirs
        for name, child in theirs.named_children():
            # The task has its own.
            if name != 'data_preprocessor':
                self.add_module(name, child)
        # Those of the detector itself, such as the level embedding of DINO.
        for name, parameter in theirs.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        # Theirs calls it in every mode, so backbone and heads can compute in different precisions.
        theirs.extract_feat = self.extract
        self.num_classes = self._counted_classes()
        self.classes = tuple(classes or ())
        if self.classes and len(self.classes) != self.num_classes:
            raise ConfigError(
                f'classes names {len(self.classes)} classes but the heads have num_classes={self.num_classes}: '
                'give both the same number'
            )
        self._check_strides()

    @property
    def width(self) -> int:
        """See :class:`BaseTask`."""
        return self.backbone.width

    def check_data(self, metainfo: dict) -> None:
        """See :class:`BaseTask`; the classes have to agree in number, names and order."""
        names, dataset = tuple(metainfo.get('classes') or ()), metainfo.get('name', 'the training data')
        if not names:
            return
        if len(names) != self.num_classes:
            raise DataError(
                f'{dataset} has {len(names)} classes but the heads of {type(self._detector).__name__} have '
                f'num_classes={self.num_classes}: set num_classes of every bbox_head and mask_head to {len(names)}, '
                'or train on data with the classes of the heads'
            )
        for label, (ours, theirs) in enumerate(zip(self.classes, names)):
            if ours != theirs:
                raise DataError(
                    f"class {label} is '{ours}' in model.classes but '{theirs}' in {dataset}: name the same classes in "
                    'the same order, or leave model.classes out to take those of the data'
                )
        self.classes = names

    def init_weights(self) -> None:
        """Load or draw the weights of all parts as the detector does it."""
        with DefaultScope.overwrite_default_scope('mmdet'):
            self._detector.init_weights()

    def train(self, mode: bool = True) -> Detector:
        """Set the mode, also of mmdetection's own object, which DINO asks for it."""
        self._detector.training = mode
        return super().train(mode)

    def extract(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The pyramid of pixels ``[B, 3, H, W]``: per level ``[B, C, H/stride, W/stride]`` in fp32."""
        with self.autocast(inputs):
            features = self.backbone(inputs)
        with _full_precision(inputs):
            return tuple(self.neck(features))

    def loss(self, inputs: Tensor, data_samples: list[Any]) -> dict[str, Tensor]:
        """Losses by the names of mmdetection; some are lists with one entry per level."""
        with _full_precision(inputs):
            return self._detector.loss(inputs, data_samples)

    def predict(self, inputs: Tensor, data_samples: list[Any]) -> list[Any]:
        """Fill ``pred_instances`` in pixels of the original image: boxes (x1, y1, x2, y2), scores, labels, masks."""
        with _full_precision(inputs):
            return self._detector.predict(inputs, data_samples)

    def _counted_classes(self) -> int:
        found = {
            name: part.num_classes
            for name, part in self.named_modules()
            if isinstance(getattr(part, 'num_classes', None), int) and not name.startswith(_WITHOUT_CLASSES)
        }
        if len(set(found.values())) != 1:
            counts = ', '.join(f'{name}.num_classes={count}' for name, count in found.items())
            raise ConfigError(
                f'the heads of the detector need one number of classes, but have {counts or "none"}: give each '
                'bbox_head and mask_head the same num_classes'
            )
        return next(iter(found.values()))

    def _check_strides(self) -> None:
        """Boxes are laid out by strides that the heads are told; wrong ones would train, badly, without a word."""
        given = getattr(self.neck, 'strides', None)
        for name in ('rpn_head', 'bbox_head'):
            generator = getattr(getattr(self, name, None), 'prior_generator', None)
            # mmdet's strides are pairs (x, y), and ours are square.
            wanted = None if generator is None else tuple(float(stride[0]) for stride in generator.strides)
            if given is not None and wanted not in (None, tuple(map(float, given))):
                raise ConfigError(
                    f'the neck gives maps of strides {given} but the anchors of {name} have {wanted}: set the strides '
                    'of its anchor_generator (and featmap_strides of the roi_head) to those of the neck'
                )


def _build_neck(neck: Part | Sequence[nn.Module | dict], width: int) -> nn.Module | None:
    if isinstance(neck, (list, tuple)):
        return nn.Sequential(*map(build_part, neck))
    # A dim in the config wins; the neck compares it with the maps it gets.
    return build_part({'dim': width, **neck} if isinstance(neck, dict) else neck)


def _with_classes(settings: Any) -> Any:
    """A copy with classes in place of dotted names, which a written config holds and not all of mmdetection reads."""
    if isinstance(settings, dict):
        return {
            key: get_object_from_string(value)
            if key == 'type' and isinstance(value, str) and '.' in value
            else _with_classes(value)
            for key, value in settings.items()
        }
    return [_with_classes(item) for item in settings] if isinstance(settings, (list, tuple)) else settings


def _as_it_is(part: nn.Module | None) -> nn.Module | None:
    """A part that is built already, for a constructor that only takes configs."""
    return part


def _full_precision(inputs: Tensor) -> torch.autocast:
    return torch.autocast(inputs.device.type, enabled=False)
