"""Qwen3: InternVL3.5."""

from transformers import Qwen3Config, Qwen3ForCausalLM

from .families import LanguageFamily, register_family
from .llama import LORA_TARGETS

# Its layers have the names of Llama's; norms of queries and keys are not adapted.
register_family(LanguageFamily('Qwen3ForCausalLM', Qwen3Config, Qwen3ForCausalLM, LORA_TARGETS))
