"""What captioning runs share: InternVL-G as published, 5 beams, 8 to 30 new tokens, the whole picture squashed to 224.

Scores need no Java. METEOR and SPICE do: pip install internvl_mm[captions], and metrics=[dict(type=JavaCaptionScores)].
"""

from mmengine.config import read_base

from internvl_mm.data.collate import collate_samples
from internvl_mm.data.datasets import CaptioningDataset
from internvl_mm.data.samplers import EvalSampler
from internvl_mm.evaluation.metrics import CaptionScores
from internvl_mm.models.tasks import GenerativePretraining
from internvl_mm.preprocess import ResizeSquash
from internvl_mm.preprocess.batch import ImageDataPreprocessor

with read_base():
    from .models.internvl_14b_224px import aligner as _aligner
    from .models.internvl_14b_224px import tokenizer as _tokenizer
    from .runtime import *

model = dict(
    type=GenerativePretraining,
    model=_aligner,
    tokenizer=_tokenizer,
    generation=dict(num_beams=5, do_sample=False, min_new_tokens=8, max_new_tokens=30),
    data_preprocessor=dict(type=ImageDataPreprocessor),
)
_dataset = dict(type=CaptioningDataset, transform=[dict(type=ResizeSquash, size=224)])
_loader = dict(
    batch_size=16, num_workers=4, sampler=dict(type=EvalSampler), collate_fn=dict(type=collate_samples)
)
_scores = [dict(type=CaptionScores)]
