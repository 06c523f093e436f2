"""InternVL-14B-224px as published: InternViT-6B, QLLaMA-8B with 96 queries, heads of InternVL-C and InternVL-G.

Weights: https://huggingface.co/OpenGVLab/InternVL-14B-224px (also holds the vocabulary).
"""

from internvl_mm.models.internvl_14b import InternVL14B
from internvl_mm.preprocess.caption_tokens import CaptionTokenizer

vision = dict(
    hidden_size=3200,
    num_hidden_layers=48,
    num_attention_heads=25,
    intermediate_size=12800,
    image_size=224,
)
llama = dict(
    vocab_size=49954,
    hidden_size=4096,
    num_hidden_layers=32,
    num_attention_heads=32,
    intermediate_size=11008,
    max_position_embeddings=2048,
    rms_norm_eps=1e-6,
    pad_token_id=0,
)
aligner = dict(
    type=InternVL14B,
    vision=vision,
    qllama=llama,
    num_query_token=96,
    cross_attention_frequency=2,
    clip_embed_dim=768,
    attn_pool_num_heads=16,
    pretrained='pretrained/InternVL-14B-224px',
)
tokenizer = dict(type=CaptionTokenizer, path='pretrained/InternVL-14B-224px/tokenizer.model', max_length=80)
