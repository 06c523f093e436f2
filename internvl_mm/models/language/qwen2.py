"""Qwen2: InternVL2-1B and most of InternVL2.5 and InternVL3."""

from transformers import Qwen2Config, Qwen2ForCausalLM

from .families import LanguageFamily, register_family
from .llama import LORA_TARGETS

# Its layers have the names of Llama's.
register_family(LanguageFamily('Qwen2ForCausalLM', Qwen2Config, Qwen2ForCausalLM, LORA_TARGETS))
