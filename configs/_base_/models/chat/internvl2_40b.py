"""InternVL2-40B: 40.1 B parameters.

Weights: https://huggingface.co/OpenGVLab/InternVL2-40B
"""

from mmengine.config import read_base

from internvl_mm.models.chat_model import ChatModel
from internvl_mm.models.connectors import PixelShuffleMlp

with read_base():
    from ..intern_vit_6b_448px_v1_5 import backbone as _vision
    from ..language.nous_hermes_2_yi_34b import language_model as _language

model = dict(
    type=ChatModel,
    vision=_vision,
    connector=dict(type=PixelShuffleMlp),
    language_model=_language,
    template='Hermes-2',
)
