"""The two towers of InternVL-C: InternViT-6B from scratch, LLaMA-7B (Chinese-Alpaca) as text tower, 13 B parameters.

Weights of the text tower: a Llama of 49,954 pieces below pretrained/chinese-alpaca-7b.
"""

from mmengine.config import read_base

from internvl_mm.models.losses import InfoNCELoss
from internvl_mm.models.necks import AttentionPooling
from internvl_mm.models.tasks import ContrastivePretraining
from internvl_mm.models.text_encoders import LlamaTextEncoder
from internvl_mm.preprocess.batch import ImageDataPreprocessor
from internvl_mm.preprocess.caption_tokens import CaptionTokenizer

with read_base():
    from .internvl_14b_224px import llama as _llama

model = dict(
    type=ContrastivePretraining,
    neck=dict(type=AttentionPooling, num_heads=16, out_dim=768),
    text_encoder=dict(
        type=LlamaTextEncoder,
        llama=_llama,
        pretrained='pretrained/chinese-alpaca-7b',
        gradient_checkpointing=True,
    ),
    tokenizer=dict(type=CaptionTokenizer, path='pretrained/chinese-alpaca-7b/tokenizer.model'),
    loss=dict(type=InfoNCELoss),
    data_preprocessor=dict(type=ImageDataPreprocessor),
)
