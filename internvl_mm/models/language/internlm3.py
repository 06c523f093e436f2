"""InternLM3: InternVL3-9B. Llama under its own model type; its folders name their tensors as Llama does."""

from transformers import LlamaConfig, LlamaForCausalLM

from .families import LanguageFamily, register_family
from .llama import LORA_TARGETS

register_family(LanguageFamily('InternLM3ForCausalLM', LlamaConfig, LlamaForCausalLM, LORA_TARGETS))
