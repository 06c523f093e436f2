"""InternVL-Chat-V1-1: 19.11 B parameters.

Weights: https://huggingface.co/OpenGVLab/InternVL-Chat-V1-1
"""

from mmengine.config import read_base

from internvl_mm.models.chat_model import ChatModel
from internvl_mm.models.connectors import PixelShuffleMlp

with read_base():
    from ..intern_vit_6b_448px_v1_0 import backbone as _vision
    from ..language.llama2_13b_bilingual import language_model as _language

model = dict(
    type=ChatModel,
    vision=_vision,
    connector=dict(type=PixelShuffleMlp, version='v1'),
    language_model=_language,
    template='internvl_zh',
    select_layer=-4,
)
