"""Frozen InternVL-14B glued to Vicuna by two projectors: 96 queries of QLLaMA and 576 patches.

The "C+QLLaMA+MLP" rows of the CVPR paper, table 9; no weights were published.
"""

from mmengine.config import read_base

from internvl_mm.models.chat_model import ChatModel
from internvl_mm.models.connectors import QLlamaQueries, QueryGlue

with read_base():
    from ..intern_vit_6b_224px import backbone as _vision
    from ..language.vicuna_13b import language_model as _language

model = dict(
    type=ChatModel,
    vision=dict(_vision, frozen='all'),
    connector=dict(
        type=QueryGlue,
        query_former=dict(
            type=QLlamaQueries,
            qllama=dict(
                vocab_size=49954,
                hidden_size=4096,
                intermediate_size=11008,
                num_hidden_layers=32,
                num_attention_heads=32,
            ),
        ),
    ),
    language_model=_language,
    template='vicuna_v1',
    image_size=336,
)
