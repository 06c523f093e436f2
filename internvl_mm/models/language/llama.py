"""Llama: Vicuna (Chat-13B, 19B), LLaMA2 (V1-1), Nous-Hermes-2-Yi-34B (V1-2, 40B), Hermes-2-Theta-Llama-3 (76B)."""

from transformers import LlamaConfig, LlamaForCausalLM

from .families import LanguageFamily, register_family

# Query, key, value, output and the three matrices of the gated MLP: what the published recipes adapt.
LORA_TARGETS = (
    'self_attn.q_proj',
    'self_attn.k_proj',
    'self_attn.v_proj',
    'self_attn.o_proj',
    'mlp.gate_proj',
    'mlp.down_proj',
    'mlp.up_proj',
)

register_family(LanguageFamily('LlamaForCausalLM', LlamaConfig, LlamaForCausalLM, LORA_TARGETS))
