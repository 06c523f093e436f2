"""InternLM3-8B-Instruct, with the nine tokens of images and boxes."""

from internvl_mm.models.language.part import LanguageModel

language_model = dict(
    type=LanguageModel,
    llm_config=dict(
        architectures=['InternLM3ForCausalLM'],
        vocab_size=128521,
        hidden_size=4096,
        intermediate_size=10240,
        num_hidden_layers=48,
        num_attention_heads=32,
        num_key_value_heads=2,
        head_dim=128,
        max_position_embeddings=32768,
        rms_norm_eps=1e-05,
        rope_theta=50000000,
        rope_scaling=dict(rope_type='dynamic', factor=6.0),
    ),
    pretrained='pretrained/internlm3-8b-instruct',
)
