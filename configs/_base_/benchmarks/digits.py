"""DigitScenes, one digit per image: the 360 test digits, none of which is a training digit."""

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import DigitSceneDataset
from internvl_mm.data.samplers import EvalSampler
from internvl_mm.evaluation.metrics import Accuracy

benchmarks = dict(
    digits=dict(
        dataloader=dict(
            batch_size=120,
            sampler=dict(type=EvalSampler),
            collate_fn=dict(type=collate_samples),
            dataset=dict(type=DigitSceneDataset, name='digits', split='test'),
        ),
        metrics=[dict(type=Accuracy)],
    ),
)
