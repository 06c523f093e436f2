"""mmcv.ops without compiled operators: what imports, what runs, what refuses and how."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import mmcv
import mmcv.cnn
import mmcv.ops
import mmcv.utils
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.utils.dl_utils.misc import mmcv_full_available

from internvl_mm import ops
from internvl_mm.ops import stand_in
from internvl_mm.utils.errors import ConfigError


def test_the_functions_of_mmcv_are_ours_wherever_they_were_copied() -> None:
    import mmdet.models.layers.bbox_nms
    import mmdet.structures.mask.structures
    import mmseg.models.losses.focal_loss

    assert ops.backend() == 'torch'
    assert mmcv.ops.nms is ops.nms and sys.modules['mmcv.ops.nms'].nms is ops.nms
    assert mmdet.models.layers.bbox_nms.batched_nms is ops.batched_nms
    assert mmdet.structures.mask.structures.roi_align is ops.roi_align
    assert mmseg.models.losses.focal_loss._sigmoid_focal_loss is ops.sigmoid_focal_loss
    # the deformable convolutions of saconv.py are reached too
    assert sys.modules['mmcv.ops.saconv'].deform_conv2d is ops.deform_conv2d
    assert ops.RoIAlign is mmcv.ops.RoIAlign
    assert mmcv_full_available()
    assert mmcv.utils.collect_env()['MMCV Compiler'] == 'n/a'


def test_every_function_put_in_place_exists_in_mmcv() -> None:
    # An update of mmcv that moves one would otherwise leave the stand-in in its place.
    for module, functions in stand_in._REPLACED.items():
        for name, ours in functions.items():
            assert vars(sys.modules[f'mmcv.ops.{module}'])[name] is ours


@pytest.mark.parametrize(
    ('use', 'operator'),
    [
        (lambda: mmcv.ops.nms_rotated(torch.rand(2, 5), torch.rand(2), 0.5), 'nms_rotated'),
        (lambda: mmcv.ops.CARAFE(3, 1, 2)(torch.rand(1, 1, 2, 2), torch.rand(1, 9, 4, 4)), 'carafe_forward'),
        (lambda: mmcv.ops.PSAMask('collect', (3, 3))(torch.rand(1, 9, 2, 2)), 'psamask_forward'),
    ],
)
def test_operators_out_of_scope_refuse_on_use(use, operator: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"'{operator}' of mmcv is not among .* pip install --no-build-isolation"
    ):
        use()


def test_modules_are_found_in_the_registry_and_unknown_names_are_not() -> None:
    layer = mmcv.cnn.build_conv_layer(dict(type='DCNv2'), 2, 4, 3, padding=1)
    assert layer(torch.rand(1, 2, 5, 5)).shape == (1, 4, 5, 5)
    with pytest.raises(AttributeError, match="no attribute 'RoIAling'"):
        ops.RoIAling  # noqa: B018


def test_the_attention_of_mmcv_takes_our_function_on_cuda_too() -> None:
    value, locations, weights = (
        torch.rand(1, 6, 2, 4),
        torch.rand(1, 3, 2, 1, 2, 2),
        torch.rand(1, 3, 2, 1, 2),
    )
    function = sys.modules['mmcv.ops.multi_scale_deform_attn'].MultiScaleDeformableAttnFunction
    shapes = torch.tensor([[2, 3]])
    found = function.apply(value, shapes, torch.tensor([0]), locations, weights, 64)
    assert torch.equal(found, ops.multi_scale_deformable_attn(value, shapes, locations, weights))


def tried_again(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str | None) -> str | None:
    """What is found wrong with an extension of this text (``None``: no such file)."""
    monkeypatch.delitem(sys.modules, stand_in.EXTENSION)
    if text is not None:
        (folder / '_ext.py').write_text(text, encoding='utf-8')
    monkeypatch.setattr(mmcv, '__path__', [*mmcv.__path__, str(folder)])
    importlib.invalidate_caches()
    return stand_in._reason_not_compiled.__wrapped__()


def test_absent_and_broken_extensions_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tried_again(monkeypatch, tmp_path, None) == 'mmcv is installed without its compiled operators'


def test_a_broken_extension_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reason = tried_again(monkeypatch, tmp_path, "raise ImportError('undefined symbol: _ZN2at')")
    assert reason == "mmcv's compiled operators do not load (undefined symbol: _ZN2at)"


def test_a_loading_extension_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tried_again(monkeypatch, tmp_path, 'nms = None') is None
    monkeypatch.setattr(stand_in, '_reason_not_compiled', lambda: None)
    assert stand_in.backend.__wrapped__() == 'compiled'
    monkeypatch.setattr(stand_in, 'backend', lambda: 'compiled')
    executed = []

    class Inner:
        exec_module = executed.append

    module = ModuleType('mmcv.ops')
    stand_in._Loader(Inner()).exec_module(module)
    assert executed == [module]
    assert not isinstance(sys.modules[stand_in.EXTENSION], stand_in._StandIn)


def test_installing_twice_changes_nothing_and_too_late_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(sys.meta_path)
    ops.install()
    assert sys.meta_path == before
    monkeypatch.setattr(sys, 'meta_path', [f for f in before if not isinstance(f, stand_in._Finder)])
    monkeypatch.setitem(sys.modules, 'mmseg.models', ModuleType('mmseg.models'))
    monkeypatch.delitem(sys.modules, 'mmcv.ops')
    with pytest.warns(UserWarning, match='mmseg was imported before internvl_mm.ops'):
        ops.install()


@pytest.mark.slow  # a whole start of Python
def test_a_fresh_process_gives_one_notice_and_only_when_mmcv_ops_is_wanted() -> None:
    script = (
        # What every command imports before it knows the task: mmdet and mmseg would take seconds.
        'import sys, internvl_mm.engine.config, internvl_mm.engine.runner\n'
        "assert not {'mmcv', 'mmdet', 'mmseg'} & set(sys.modules)\n"
        'import mmcv.cnn, mmcv.ops'
    )
    # Other tests may have left a rank behind, and only the first one speaks.
    alone = {name: value for name, value in os.environ.items() if name != 'RANK'}
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, check=True, env=alone
    )
    notice = (
        'mmcv is installed without its compiled operators: mmdet and mmseg run on internvl_mm.ops instead'
    )
    assert done.stderr.count(notice) == 1
    assert 'Fail to import' not in done.stderr


def test_a_tiny_mask_rcnn_trains_and_predicts() -> None:
    import mmdet.models  # noqa: F401
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    from tests.test_ops.mask_rcnn import TINY_MASK_RCNN

    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(ConfigDict(TINY_MASK_RCNN))
    sample = DetDataSample(
        metainfo=dict(img_shape=(64, 64), pad_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0))
    )
    masks = np.zeros((2, 64, 64), dtype=np.uint8)
    masks[0, 8:40, 8:40] = masks[1, 30:60, 20:50] = 1
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 8, 40, 40], [20, 30, 50, 60]]),
        labels=torch.tensor([0, 2]),
        masks=BitmapMasks(masks, 64, 64),
    )
    losses = model.loss(torch.randn(1, 3, 64, 64), [sample])
    total, logged = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total) and {'loss_rpn_cls', 'loss_bbox', 'loss_mask'} <= set(logged)
    assert model.roi_head.mask_head.conv_logits.weight.grad.any()
    assert model.backbone.conv1.weight.grad.any()
    with torch.no_grad():
        (predicted,) = model.eval().predict(torch.randn(1, 3, 64, 64), [sample])
    found = predicted.pred_instances
    assert len(found) > 0 and found.masks.shape == (len(found), 64, 64)
    assert importlib.util.find_spec('mmcv.ops') is not None
