"""Hermes-2-Theta-Llama-3-70B, with the nine tokens of images and boxes."""

from internvl_mm.models.language.part import LanguageModel

language_model = dict(
    type=LanguageModel,
    llm_config=dict(
        architectures=['LlamaForCausalLM'],
        vocab_size=128265,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        rms_norm_eps=1e-05,
        rope_theta=500000.0,
    ),
    pretrained='pretrained/Hermes-2-Theta-Llama-3-70B',
)
