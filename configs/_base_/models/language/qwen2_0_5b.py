"""Qwen2-0.5B-Instruct, with the nine tokens of images and boxes; its output matrix is its own here."""

from internvl_mm.models.language.part import LanguageModel

language_model = dict(
    type=LanguageModel,
    llm_config=dict(
        architectures=['Qwen2ForCausalLM'],
        vocab_size=151655,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rope_theta=1000000.0,
    ),
    pretrained='pretrained/Qwen2-0.5B-Instruct',
)
