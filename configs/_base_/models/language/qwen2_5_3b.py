"""Qwen2.5-3B, with the nine tokens of images and boxes."""

from internvl_mm.models.language.part import LanguageModel

language_model = dict(
    type=LanguageModel,
    llm_config=dict(
        architectures=['Qwen2ForCausalLM'],
        vocab_size=151674,
        hidden_size=2048,
        intermediate_size=11008,
        num_hidden_layers=36,
        num_attention_heads=16,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rope_theta=1000000.0,
    ),
    pretrained='pretrained/Qwen2.5-3B-Instruct',
)
