"""Language models of transformers, as chat models use them."""

from . import internlm2, internlm3, llama, phi3, qwen2, qwen3  # noqa: F401 (each registers its family)
from .families import FAMILIES, LanguageFamily, family_of, language_config, register_family

__all__ = ['FAMILIES', 'LanguageFamily', 'family_of', 'language_config', 'register_family']
