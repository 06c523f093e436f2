"""How a published chat model is trained: projector and language model, vision frozen, activations recomputed.

A config adds ``chat`` and ``tokenizer``.
"""

from internvl_mm.models.tasks.chat_tuning import ChatTuning
from internvl_mm.models.tuning import PartTuning
from internvl_mm.preprocess.chat_batch import ChatDataPreprocessor

model = dict(
    type=ChatTuning,
    vision=dict(type=PartTuning, train='none', checkpointing=True),
    projector=dict(type=PartTuning),
    language=dict(type=PartTuning, checkpointing=True),
    data_preprocessor=dict(type=ChatDataPreprocessor),
)
