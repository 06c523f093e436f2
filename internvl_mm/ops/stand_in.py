"""``mmcv.ops`` without its compiled extension.

mmdet and mmseg import ``mmcv.ops`` as a whole, and mmcv imports its compiled extension for each of its operators: where
that is absent, nothing of mmdet can be imported. Here the extension gets a stand-in whose functions raise when they are
used, and the functions that the models of this project need are replaced by those of :mod:`internvl_mm.ops`. mmcv's own
Python around them (modules, their parameters and options) stays as it is.
"""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Literal, NoReturn

from internvl_mm.utils.console import error_console
from internvl_mm.utils.errors import ConfigError

from .convolution import deform_conv2d, masked_conv2d, modulated_deform_conv2d
from .deformable_attention import multi_scale_deformable_attn
from .focal import sigmoid_focal_loss, softmax_focal_loss
from .nms import batched_nms, nms, soft_nms
from .points import SimpleRoIAlign, point_sample, rel_roi_point_to_rel_img_point
from .roi import roi_align, roi_pool

EXTENSION = 'mmcv._ext'
# Only outside of an isolated build does mmcv's set-up find torch and compile; a wheel in the cache would be reused.
REMEDY = (
    "pip install --no-build-isolation --no-deps --no-cache-dir --force-reinstall 'onedl-mmcv>=2.3.6,<2.4' "
    '(needs a C++ compiler, and nvcc for CUDA)'
)


class _AttentionFunction:
    """What mmcv's module calls on CUDA in place of the plain function."""

    @staticmethod
    def apply(value: Any, shapes: Any, starts: Any, locations: Any, weights: Any, im2col_step: Any) -> Any:
        # The first follows from the shapes, the second only tunes mmcv's kernel.
        del starts, im2col_step
        return multi_scale_deformable_attn(value, shapes, locations, weights)


def _not_compiled() -> str:
    return 'n/a'


# Module of mmcv.ops -> name in it -> what takes its place.
_REPLACED: dict[str, dict[str, Any]] = {
    'deform_conv': {'deform_conv2d': deform_conv2d},
    'focal_loss': {'sigmoid_focal_loss': sigmoid_focal_loss, 'softmax_focal_loss': softmax_focal_loss},
    # collect_env() of mmcv prints these two.
    'info': {'get_compiler_version': _not_compiled, 'get_compiling_cuda_version': _not_compiled},
    'masked_conv': {'masked_conv2d': masked_conv2d},
    'modulated_deform_conv': {'modulated_deform_conv2d': modulated_deform_conv2d},
    'multi_scale_deform_attn': {
        'multi_scale_deformable_attn_pytorch': multi_scale_deformable_attn,
        'MultiScaleDeformableAttnFunction': _AttentionFunction,
    },
    'nms': {'batched_nms': batched_nms, 'nms': nms, 'soft_nms': soft_nms},
    'point_sample': {
        'SimpleRoIAlign': SimpleRoIAlign,
        'point_sample': point_sample,
        'rel_roi_point_to_rel_img_point': rel_roi_point_to_rel_img_point,
    },
    'roi_align': {'roi_align': roi_align},
    'roi_pool': {'roi_pool': roi_pool},
}


def install() -> None:
    """Let ``mmcv.ops`` import where its compiled extension does not.

    Importing :mod:`internvl_mm.ops` calls it. It costs nothing until something imports ``mmcv.ops``; only then is the
    compiled extension tried, and left alone when it loads. Call it before mmdet or mmseg are imported.
    """
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    # In front: Python's own finder would load mmcv.ops without asking any later one.
    sys.meta_path.insert(0, _Finder())
    if 'mmseg.models' in sys.modules and 'mmcv.ops' not in sys.modules:
        warnings.warn(
            'mmseg was imported before internvl_mm.ops, so that its heads lack point_sample and the focal loss: '
            'import internvl_mm.ops first',
            stacklevel=2,
        )


@functools.cache
def backend() -> Literal['compiled', 'torch']:
    """Whose operators ``mmcv.ops`` runs on.

    Returns:
        ``'compiled'`` where ``mmcv._ext`` imports; then ``mmcv.ops`` is as mmcv made it. ``'torch'`` where it is
        absent or fails to import; then ``mmcv.ops`` runs on :mod:`internvl_mm.ops`. The functions of this package
        itself are always the ones on torch and torchvision.
    """
    return 'torch' if _reason_not_compiled() else 'compiled'


@functools.cache
def _reason_not_compiled() -> str | None:
    # Asked for once: afterwards the stand-in would answer.
    try:
        importlib.import_module(EXTENSION)
    except ModuleNotFoundError:
        return 'mmcv is installed without its compiled operators'
    except ImportError as error:
        return f"mmcv's compiled operators do not load ({error})"
    return None


class _Finder(MetaPathFinder):
    """Finds ``mmcv.ops`` where Python does, and has it loaded by :class:`_Loader`."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of ``mmcv.ops`` with our loader; nothing for other modules."""
        if fullname != 'mmcv.ops':
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, inner: Loader):
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        # File names, sources and resources are the real loader's business.
        return getattr(self._inner, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Leave it to Python's loader."""
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, over the stand-in where no compiled operators load."""
        if backend() == 'compiled':
            self._inner.exec_module(module)
            return
        sys.modules[EXTENSION] = _StandIn(EXTENSION)
        self._inner.exec_module(module)
        _replace()
        # Workers of data loaders and further ranks would repeat it.
        if multiprocessing.parent_process() is None and os.environ.get('RANK', '0') == '0':
            error_console.print(
                f'{_reason_not_compiled()}: mmdet and mmseg run on internvl_mm.ops instead',
                style='dim',
                soft_wrap=True,
            )


class _StandIn(ModuleType):
    """Stands in for the compiled extension: has every function, and each of them raises."""

    def __init__(self, name: str):
        super().__init__(name, 'Stand-in for the compiled operators of mmcv.')
        # importlib.util.find_spec refuses a loaded module without one.
        self.__spec__ = ModuleSpec(name, loader=None)

    def __getattr__(self, name: str) -> Any:
        # Python and inspect probe modules for such names, and would take a function for an answer.
        if name.startswith('__'):
            raise AttributeError(name)
        return functools.partial(_refuse, name)


def _refuse(operator: str, *args: Any, **kwargs: Any) -> NoReturn:
    del args, kwargs
    raise ConfigError(
        f"the operator '{operator}' of mmcv is not among those of internvl_mm.ops: {_reason_not_compiled()}. Choose a "
        f'part that does not need it, or compile mmcv: {REMEDY}'
    )


def _replace() -> None:
    """Put our functions wherever a module of mmcv holds mmcv's: importing by name has copied them around."""
    holders = [module for name, module in list(sys.modules.items()) if name.startswith('mmcv.')]
    for module, functions in _REPLACED.items():
        source = vars(sys.modules[f'mmcv.ops.{module}'])
        for name, ours in functions.items():
            theirs = source[name]
            for holder in holders:
                # The same object, not only the same name: that may be something else there.
                if vars(holder).get(name) is theirs:
                    setattr(holder, name, ours)
