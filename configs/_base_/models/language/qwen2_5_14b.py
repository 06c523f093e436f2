"""Qwen2.5-14B, with the nine tokens of images and boxes."""

from internvl_mm.models.language.part import LanguageModel

language_model = dict(
    type=LanguageModel,
    llm_config=dict(
        architectures=['Qwen2ForCausalLM'],
        vocab_size=151674,
        hidden_size=5120,
        intermediate_size=13824,
        num_hidden_layers=48,
        num_attention_heads=40,
        num_key_value_heads=8,
        max_position_embeddings=32768,
        rope_theta=1000000.0,
        rms_norm_eps=1e-05,
    ),
    pretrained='pretrained/Qwen2.5-14B-Instruct',
)
