"""InternVL-Chat-ViT-6B-Vicuna-13B: 19 B parameters, LLaVA's projector on 576 patch tokens of block 45.

Weights: https://huggingface.co/OpenGVLab/InternVL-Chat-ViT-6B-Vicuna-13B
"""

from mmengine.config import read_base

from internvl_mm.models.chat_model import ChatModel
from internvl_mm.models.connectors import LlavaMlp

with read_base():
    from ..intern_vit_6b_224px import backbone as _vision
    from ..language.vicuna_13b import language_model as _language

model = dict(
    type=ChatModel,
    vision=_vision,
    connector=dict(type=LlavaMlp, depth=2),
    language_model=_language,
    template='vicuna_v1',
    select_layer=-4,
    image_size=336,
)
