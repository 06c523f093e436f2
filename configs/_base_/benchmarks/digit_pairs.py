"""DigitScenes from text: which digit, from class names alone, and retrieval; 360 test digits, none a training digit."""

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import DigitCaptionDataset, DigitSceneDataset
from internvl_mm.data.samplers import EvalSampler
from internvl_mm.evaluation.metrics import RetrievalRecall, ZeroShotAccuracy

_loader = dict(batch_size=120, sampler=dict(type=EvalSampler), collate_fn=dict(type=collate_samples))
benchmarks = dict(
    zero_shot=dict(
        dataloader=dict(_loader, dataset=dict(type=DigitSceneDataset, name='zero_shot', split='test')),
        metrics=[dict(type=ZeroShotAccuracy)],
    ),
    # Captions of kind 1 say the digit alone: ten different texts.
    retrieval=dict(
        dataloader=dict(
            _loader, dataset=dict(type=DigitCaptionDataset, name='retrieval', split='test', kinds=(1,))
        ),
        metrics=[dict(type=RetrievalRecall)],
    ),
)
