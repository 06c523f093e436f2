"""Mini-InternVL-Chat-2B-V1-5: 2.2 B parameters.

Weights: https://huggingface.co/OpenGVLab/Mini-InternVL-Chat-2B-V1-5
"""

from mmengine.config import read_base

from internvl_mm.models.chat_model import ChatModel
from internvl_mm.models.connectors import PixelShuffleMlp

with read_base():
    from ..intern_vit_300m_448px import backbone as _vision
    from ..language.internlm2_1_8b import language_model as _language

model = dict(
    type=ChatModel,
    vision=_vision,
    connector=dict(type=PixelShuffleMlp),
    language_model=_language,
    template='internlm2-chat',
    system_message='You are an AI assistant whose name is InternLM (书生·浦语).',
)
