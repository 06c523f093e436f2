"""InternVL2_5-4B: 3.7 B parameters.

Weights: https://huggingface.co/OpenGVLab/InternVL2_5-4B
"""

from mmengine.config import read_base

from internvl_mm.models.chat_model import ChatModel
from internvl_mm.models.connectors import PixelShuffleMlp

with read_base():
    from ..intern_vit_300m_448px_v2_5 import backbone as _vision
    from ..language.qwen2_5_3b import language_model as _language

model = dict(
    type=ChatModel,
    vision=_vision,
    connector=dict(type=PixelShuffleMlp),
    language_model=_language,
    template='internvl2_5',
)
