"""Token ids to one vector per text."""

from .llama import LlamaTextEncoder

__all__ = ['LlamaTextEncoder']
