"""internlm2-chat-1_8b and internlm2_5-1_8b-chat, with the nine tokens of images and boxes."""

from internvl_mm.models.language.part import LanguageModel

language_model = dict(
    type=LanguageModel,
    llm_config=dict(
        architectures=['InternLM2ForCausalLM'],
        vocab_size=92553,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_key_value_heads=8,
        max_position_embeddings=32768,
        rms_norm_eps=1e-05,
        rope_theta=1000000,
        rope_scaling=dict(rope_type='dynamic', factor=2.0),
    ),
    pretrained='pretrained/internlm2-chat-1_8b',
)
