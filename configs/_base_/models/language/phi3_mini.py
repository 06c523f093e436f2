"""Phi-3-mini-128k-instruct, with the nine tokens of images and boxes.

The factors of its long positions are read from the folder it starts from.
"""

from internvl_mm.models.language.part import LanguageModel

language_model = dict(
    type=LanguageModel,
    llm_config=dict(
        architectures=['Phi3ForCausalLM'],
        vocab_size=32020,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=32,
        num_attention_heads=32,
        max_position_embeddings=131072,
        original_max_position_embeddings=4096,
        rms_norm_eps=1e-05,
    ),
    pretrained='pretrained/Phi-3-mini-128k-instruct',
)
