"""Qwen2.5-72B, with the nine tokens of images and boxes."""

from internvl_mm.models.language.part import LanguageModel

language_model = dict(
    type=LanguageModel,
    llm_config=dict(
        architectures=['Qwen2ForCausalLM'],
        vocab_size=151674,
        hidden_size=8192,
        intermediate_size=29568,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        max_position_embeddings=32768,
        rope_theta=1000000.0,
    ),
    pretrained='pretrained/Qwen2.5-72B-Instruct',
)
