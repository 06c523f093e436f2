"""Phi-3: Mini-InternVL-Chat-4B-V1-5 and InternVL2-4B."""

from transformers import Phi3Config, Phi3ForCausalLM

from .families import LanguageFamily, register_family

# Queries, keys and values are one matrix here, gate and up another.
LORA_TARGETS = ('mlp.down_proj', 'mlp.gate_up_proj', 'self_attn.o_proj', 'self_attn.qkv_proj')

register_family(LanguageFamily('Phi3ForCausalLM', Phi3Config, Phi3ForCausalLM, LORA_TARGETS))
