from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from internvl_mm.data.pipeline import Pipeline
from internvl_mm.utils.errors import ConfigError

IMAGE = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))


def test_a_picture_becomes_a_uint8_tensor():
    pixels = Pipeline()(IMAGE)
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels.permute(1, 2, 0), torch.from_numpy(np.asarray(IMAGE).copy()))


def test_configs_and_callables_run_in_order():
    pipeline = Pipeline([dict(type=v2.CenterCrop, size=2), v2.PILToTensor(), lambda pixels: pixels + 1])
    assert torch.equal(pipeline(IMAGE), Pipeline([v2.CenterCrop(2)])(IMAGE) + 1)


@pytest.mark.parametrize('last', [lambda pixels: pixels / 255, lambda pixels: pixels[:1], np.asarray])
def test_other_results_are_refused(last):
    with pytest.raises(ConfigError, match='transform gives .* instead of an RGB image or a uint8 tensor'):
        Pipeline([v2.PILToTensor(), last])(IMAGE)
