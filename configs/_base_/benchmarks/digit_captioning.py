"""DigitScenes described: captions of the 360 test digits in English and in Chinese, none of them a training digit."""

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import DigitCaptioningDataset
from internvl_mm.data.samplers import EvalSampler
from internvl_mm.evaluation.metrics import CaptionExactMatch, CaptionScores

_loader = dict(batch_size=120, sampler=dict(type=EvalSampler), collate_fn=dict(type=collate_samples))
# Captions of kinds 0 and 1 say the digit, and its colour too or not: two references for each picture.
_data = dict(type=DigitCaptioningDataset, split='test', kinds=(0, 1))
_metrics = [dict(type=CaptionScores), dict(type=CaptionExactMatch, by_kind=False, prefix='caption')]
benchmarks = dict(
    captions_en=dict(
        dataloader=dict(_loader, dataset=dict(_data, name='captions_en', language='en')), metrics=_metrics
    ),
    captions_zh=dict(
        dataloader=dict(_loader, dataset=dict(_data, name='captions_zh', language='zh')), metrics=_metrics
    ),
)
