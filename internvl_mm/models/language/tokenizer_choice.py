"""Which tokenizer ``AutoTokenizer`` gives for a published folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import cached_file

from .tokenizer import FILE, InternLM2Tokenizer
from .tokenizer_llama import LlamaTokenizer

_OURS = {'InternLM2Tokenizer': InternLM2Tokenizer, 'LlamaTokenizer': LlamaTokenizer}
# A setting of folders of this package's layouts, and what it holds there; None: anything. The last is InternVL-14B's,
# whose text must be padded at the right, where transformers 5 pads Llama's at the left.
_PUBLISHED = (('model_type', 'internvl_chat'), ('mm_vision_tower', None), ('qllama_config', None))


def register_tokenizers() -> None:
    """Make ``AutoTokenizer`` take our classes for chat folders, and never the folder's own code.

    transformers offers no registration that wins over ``auto_map`` once a model type has several tokenizers, as
    ``internvl_chat`` has: each language model brings its own.
    """
    published = AutoTokenizer.from_pretrained
    if published.__module__ == __name__:
        return  # done before

    def from_pretrained(path: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        """What transformers does, with our tokenizers for published folders."""
        lookup: dict[str, Any] = {
            name: kwargs[name]
            for name in ('cache_dir', 'token', 'revision', 'local_files_only', 'subfolder')
            if name in kwargs
        }
        name = str(get_tokenizer_config(path, **lookup).get('tokenizer_class')).removesuffix('Fast')
        if name not in _OURS:
            return published(path, *args, **kwargs)
        # A folder with nothing but tokenizer.json was saved from the fast tokenizer.
        fast = _file(path, FILE, lookup) is None
        # Other folders of Llama's tokenizer are none of our business.
        if name == 'LlamaTokenizer' and (fast or not _is_published(path, lookup)):
            return published(path, *args, **kwargs)
        for option in ('trust_remote_code', 'use_fast', 'config', 'code_revision'):
            kwargs.pop(option, None)
        chosen: Any = PreTrainedTokenizerFast if fast else _OURS[name]
        return chosen.from_pretrained(path, *args, **kwargs)

    AutoTokenizer.from_pretrained = from_pretrained


def _file(path: str | os.PathLike, name: str, lookup: dict[str, Any]) -> Path | None:
    """A file of a folder or of a repository on the hub, ``None`` where there is no such file."""
    found = cached_file(
        path,
        name,
        **lookup,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


def _is_published(path: str | os.PathLike, lookup: dict[str, Any]) -> bool:
    file = _file(path, 'config.json', lookup)
    if file is None:
        return False
    try:
        settings = json.loads(file.read_text('utf-8'))
    except ValueError:
        return False  # told by whoever loads the model
    return isinstance(settings, dict) and any(
        settings.get(name) == wanted if wanted else name in settings for name, wanted in _PUBLISHED
    )
