"""Fine-tuning InternVL-14B for retrieval: matching, and contrast of both image paths; evaluated as InternVL-G."""

from mmengine.config import read_base

from internvl_mm.models.tasks import RetrievalFinetuning
from internvl_mm.preprocess.batch import ImageDataPreprocessor

with read_base():
    from .internvl_14b_224px import aligner as _aligner
    from .internvl_14b_224px import tokenizer as _tokenizer

model = dict(
    type=RetrievalFinetuning,
    model=dict(_aligner, gradient_checkpointing=True),
    tokenizer=_tokenizer,
    data_preprocessor=dict(type=ImageDataPreprocessor),
)
