"""What zero-shot runs share: InternVL-C to evaluate, embeddings kept on disk, and how pictures are read.

The folder given to tools/test.py takes the place of the model's sizes and of its vocabulary.
"""

from mmengine.config import read_base

from internvl_mm.data.captions import CleanCaption
from internvl_mm.data.collate import collate_samples
from internvl_mm.data.samplers import EvalSampler
from internvl_mm.engine.zero_shot import ZeroShotRunner
from internvl_mm.evaluation.metrics import RetrievalRecall, ZeroShotAccuracy
from internvl_mm.models.tasks import RetrievalFinetuning
from internvl_mm.preprocess.batch import ImageDataPreprocessor

with read_base():
    from .data.zero_shot_crops import _crop, _squash
    from .models.internvl_14b_224px import aligner as _aligner
    from .models.internvl_14b_224px import tokenizer as _tokenizer
    from .runtime import *

runner_type = ZeroShotRunner
# Of the fine-tuning task only what embeds is used here.
model = dict(
    type=RetrievalFinetuning,
    model=_aligner,
    tokenizer=_tokenizer,
    image_mode='InternVL-C',
    data_preprocessor=dict(type=ImageDataPreprocessor),
)
# Shared by all runs: the same pictures, or the texts of the other image mode, are read from here.
features = dict(folder='work_dirs/zero_shot_features', batch_size=64, num_workers=4)
_loader = dict(
    batch_size=64, num_workers=4, sampler=dict(type=EvalSampler), collate_fn=dict(type=collate_samples)
)
_cleaned = dict(type=CleanCaption)
_classify = [dict(type=ZeroShotAccuracy)]
_retrieve = [dict(type=RetrievalRecall)]
