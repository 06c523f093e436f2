"""The internal Chinese LLaMA2-13B of V1-1.

Its vocabulary is in the release's config.json alone; 42,176 rows give the published 13.12 B.
"""

from internvl_mm.models.language.part import LanguageModel

language_model = dict(
    type=LanguageModel,
    llm_config=dict(
        architectures=['LlamaForCausalLM'],
        vocab_size=42176,
        hidden_size=5120,
        intermediate_size=13824,
        num_hidden_layers=40,
        num_attention_heads=40,
        max_position_embeddings=4096,
        rms_norm_eps=1e-05,
    ),
)
