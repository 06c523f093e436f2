"""Adapters of rank 16 in the language model, all else frozen."""

from internvl_mm.models.tasks.chat_tuning import ChatTuning
from internvl_mm.models.tuning import Lora, PartTuning
from internvl_mm.preprocess.chat_batch import ChatDataPreprocessor

model = dict(
    type=ChatTuning,
    vision=dict(type=PartTuning, train='none'),
    projector=dict(type=PartTuning, train='none'),
    language=dict(type=PartTuning, train='none', lora=dict(type=Lora, rank=16), checkpointing=True),
    data_preprocessor=dict(type=ChatDataPreprocessor),
)
