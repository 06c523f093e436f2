"""Nous-Hermes-2-Yi-34B, with the nine tokens of images and boxes."""

from internvl_mm.models.language.part import LanguageModel

language_model = dict(
    type=LanguageModel,
    llm_config=dict(
        architectures=['LlamaForCausalLM'],
        vocab_size=64009,
        hidden_size=7168,
        intermediate_size=20480,
        num_hidden_layers=60,
        num_attention_heads=56,
        num_key_value_heads=8,
        max_position_embeddings=4096,
        rms_norm_eps=1e-05,
        rope_theta=5000000.0,
    ),
    pretrained='pretrained/Nous-Hermes-2-Yi-34B',
)
