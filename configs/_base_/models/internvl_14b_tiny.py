"""InternVL-14B in small, for the CPU: the tiny InternViT, a QLLaMA of 2 layers with 8 queries."""

from internvl_mm.models.internvl_14b import InternVL14B
from internvl_mm.preprocess.caption_tokens import DigitSceneTokenizer

aligner = dict(
    type=InternVL14B,
    vision=dict(
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=384,
        image_size=56,
        initializer_factor=1.0,
    ),
    qllama=dict(
        vocab_size=512,
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=80,
        rms_norm_eps=1e-6,
        pad_token_id=0,
    ),
    num_query_token=8,
    clip_embed_dim=64,
    attn_pool_num_heads=4,
)
tokenizer = dict(type=DigitSceneTokenizer)
