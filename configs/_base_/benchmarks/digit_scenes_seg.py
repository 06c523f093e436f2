"""DigitScenes, label maps: 360 scenes of digits none of which is a training digit; mIoU of 11 classes."""

from mmengine.config import read_base
from mmseg.datasets import PackSegInputs

from internvl_mm.data.collate import collate_lists
from internvl_mm.data.datasets import OpenMMLabDataset
from internvl_mm.data.loading import LoadImage, LoadSegMap
from internvl_mm.data.samplers import EvalSampler
from internvl_mm.evaluation.metrics import MeanIoU

with read_base():
    from ..data.digit_scenes_seg import _files

benchmarks = dict(
    scenes=dict(
        dataloader=dict(
            batch_size=24,
            sampler=dict(type=EvalSampler),
            collate_fn=dict(type=collate_lists),
            dataset=dict(
                type=OpenMMLabDataset,
                name='scenes',
                dataset=dict(
                    _files,
                    data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
                    pipeline=[dict(type=LoadImage), dict(type=LoadSegMap), dict(type=PackSegInputs)],
                ),
            ),
        ),
        metrics=[dict(type=MeanIoU)],
    ),
)
