"""Mixed preference optimisation of a whole chat model: 0.8 DPO, 0.2 BCO, and the chosen answers' cross-entropy.

A config adds ``chat`` and ``tokenizer``. Source: Wang et al. 2024 (arXiv 2411.10442).
"""

from internvl_mm.models.tasks.preference import PreferenceTuning
from internvl_mm.models.tuning import PartTuning
from internvl_mm.preprocess.chat_batch import ChatDataPreprocessor

model = dict(
    type=PreferenceTuning,
    losses=dict(sigmoid=0.8, bco_pair=0.2),
    rpo_alpha=1.0,
    beta=0.1,
    vision=dict(type=PartTuning, checkpointing=True),
    projector=dict(type=PartTuning),
    language=dict(type=PartTuning, checkpointing=True),
    data_preprocessor=dict(type=ChatDataPreprocessor),
)
