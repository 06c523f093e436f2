"""A tiny classifier of handwritten digits that trains in a second, for tests of the commands."""

from mmengine.config import read_base

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import DigitSceneDataset
from internvl_mm.data.samplers import EpochSampler, EvalSampler
from internvl_mm.engine.loops import EpochTrainLoop
from internvl_mm.engine.strategies import SingleDeviceStrategy
from internvl_mm.evaluation.metrics import Accuracy
from internvl_mm.preprocess.batch import ImageDataPreprocessor

with read_base():
    from .model_only import *

model.update(data_preprocessor=dict(type=ImageDataPreprocessor, mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5]))
train_dataloader = dict(
    dataset=dict(type=DigitSceneDataset, split='train', size=28, length=16, name='digits'),
    sampler=dict(type=EpochSampler),
    collate_fn=dict(type=collate_samples),
    batch_size=8,
)
benchmarks = dict(
    digits=dict(
        dataloader=dict(
            dataset=dict(type=DigitSceneDataset, split='test', size=28, length=12, name='digits'),
            sampler=dict(type=EvalSampler),
            collate_fn=dict(type=collate_samples),
            batch_size=8,
        ),
        metrics=[dict(type=Accuracy)],
    ),
)
train_cfg = dict(type=EpochTrainLoop, max_epochs=1)
strategy = dict(type=SingleDeviceStrategy, precision='fp32')
