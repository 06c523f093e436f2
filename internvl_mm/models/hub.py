"""Published folders to models: registration with transformers' Auto classes, and our own strict loader.

Code that comes with a folder is never run, on any path of this module.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from packaging.version import Version
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from internvl_mm.utils.errors import CheckpointError, did_you_mean

from .convert import load_vision_weights
from .convert.chat import load_chat
from .convert.files import read_json
from .convert.internvl_14b import cross_attention_settings
from .hf_intern_vit import InternVisionConfig, InternVisionModel
from .hf_internvl_14b import InternVL14BConfig, InternVL14BModel, InternVLByContent
from .hf_internvl_chat import InternVLChatConfig, InternVLChatModel
from .hf_llava_chat import LlavaByContent, LlavaChatConfig, LlavaChatModel
from .internvl_14b import fill_published
from .language.internlm2 import InternLM2Config, InternLM2ForCausalLM
from .language.tokenizer_choice import register_tokenizers

# Everything a model needs; Python files are not even downloaded.
_DOWNLOADED = ['*.json', '*.safetensors', '*.bin', '*.txt', '*.model']


def register() -> None:
    """Make ``AutoConfig`` and ``AutoModel`` use our classes for the published model types.

    A registered class wins over the folder's own code, with ``trust_remote_code=True`` too.
    """
    AutoConfig.register(InternVisionConfig.model_type, InternVisionConfig, exist_ok=True)
    AutoModel.register(InternVisionConfig, InternVisionModel, exist_ok=True)
    AutoConfig.register(InternVLChatConfig.model_type, InternVLChatConfig, exist_ok=True)
    AutoModel.register(InternVLChatConfig, InternVLChatModel, exist_ok=True)
    AutoModelForCausalLM.register(InternVLChatConfig, InternVLChatModel, exist_ok=True)
    AutoConfig.register(InternLM2Config.model_type, InternLM2Config, exist_ok=True)
    AutoModelForCausalLM.register(InternLM2Config, InternLM2ForCausalLM, exist_ok=True)
    register_tokenizers()
    # Not AutoConfig.register: this type is also transformers' own, which has to go on working.
    CONFIG_MAPPING.register(InternVLByContent.model_type, InternVLByContent, exist_ok=True)
    AutoModel.register(InternVL14BConfig, InternVL14BModel, exist_ok=True)
    CONFIG_MAPPING.register(LlavaByContent.model_type, LlavaByContent, exist_ok=True)
    AutoModel.register(LlavaChatConfig, LlavaChatModel, exist_ok=True)
    AutoModelForCausalLM.register(LlavaChatConfig, LlavaChatModel, exist_ok=True)
    if Version(transformers.__version__) < Version('5.5'):
        _prefer_registered_config()


def _prefer_registered_config() -> None:
    """Before 5.5 transformers preferred the folder's code: give ``AutoConfig`` the later behaviour for our types.

    ``AutoModel`` needs no such help, because our configurations carry no ``auto_map``.
    """
    published = AutoConfig.from_pretrained
    if published.__module__ == __name__:
        return  # done before

    def from_pretrained(path: str | os.PathLike, **kwargs: Any) -> Any:
        """What transformers does, without the folder's code for types we registered."""
        lookup = {
            name: value
            for name, value in kwargs.items()
            if name not in ('trust_remote_code', 'code_revision')
        }
        # Only a look at the type, without importing anything from the folder.
        settings, _ = PreTrainedConfig.get_config_dict(path, **lookup)
        if settings.get('model_type') in _LOADERS:
            kwargs['trust_remote_code'] = False
        return published(path, **kwargs)

    AutoConfig.from_pretrained = from_pretrained


def load_model(
    source: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    revision: str | None = None,
) -> PreTrainedModel:
    """Load a published model, in evaluation mode, strictly: every tensor of the folder has its place.

    Args:
        source: A folder, or the name of a repository on the Hugging Face hub such as
            ``'OpenGVLab/InternViT-300M-448px-V2_5'``, which is downloaded once.
        dtype: Of the weights, such as ``torch.bfloat16`` or ``'bfloat16'``; left out, as stored.
        device: Where to; left out, the CPU.
        revision: Branch, tag or commit on the hub.

    Returns:
        The model; for InternViT an :class:`~internvl_mm.models.hf_intern_vit.InternVisionModel`.

    Raises:
        CheckpointError: Not found, another kind of model, damaged, or weights that do not fit the config.
    """
    folder = local_folder(str(source), revision)
    settings = read_json(folder / 'config.json')
    kind = str(settings.get('model_type'))
    if kind not in _LOADERS:
        raise CheckpointError(
            f'{folder} holds a model of type {kind!r}; supported: {", ".join(sorted(_LOADERS))}.'
            + did_you_mean(kind, _LOADERS)
        )
    # In the dtype of its files, until the next line.
    model = _LOADERS[kind](folder)
    return model.to(device=device, dtype=_as_dtype(dtype)).eval()


def _load_vision(folder: Path) -> PreTrainedModel:
    config = InternVisionConfig.from_pretrained(folder)
    # Built without memory; the tensors of the files become its parameters.
    with torch.device('meta'):
        model = InternVisionModel(config)
    load_vision_weights(model, folder)
    return model


def _load_internvl(folder: Path) -> PreTrainedModel:
    settings = read_json(folder / 'config.json')
    if 'qllama_config' not in settings:
        raise CheckpointError(
            f"{folder} is a chat model in transformers' own layout (model type 'internvl' without qllama_config): "
            'load it with transformers.AutoModelForImageTextToText'
        )
    config = InternVL14BConfig.from_dict({**settings, **cross_attention_settings(folder)})
    with torch.device('meta'):
        model = InternVL14BModel(config)
    fill_published(model, folder)
    return model


def _load_llava(folder: Path) -> PreTrainedModel:
    settings = read_json(folder / 'config.json')
    if LlavaByContent.marker not in settings:
        raise CheckpointError(
            f"{folder} is a LLaVA in transformers' own layout (no {LlavaByContent.marker} in its config.json): load it "
            'with transformers.AutoModelForImageTextToText'
        )
    return LlavaChatModel.from_pretrained(folder, dtype='auto')  # as stored


# Model type in config.json to loader.
_LOADERS: dict[str, Callable[[Path], PreTrainedModel]] = {
    InternVisionConfig.model_type: _load_vision,
    InternVLChatConfig.model_type: load_chat,
    InternVL14BConfig.model_type: _load_internvl,
    LlavaChatConfig.model_type: _load_llava,
}


def _as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if not isinstance(dtype, str):
        return dtype
    # torch has many attributes: 'load' is one, and no dtype.
    value = getattr(torch, dtype, None)
    if not isinstance(value, torch.dtype) or not value.is_floating_point:
        raise CheckpointError(f"dtype={dtype!r} is unknown: use 'float32', 'bfloat16' or 'float16'")
    return value


def local_folder(source: str, revision: str | None = None) -> Path:
    """A local folder with a config.json for ``source``, downloading from the hub when it is a repository's name."""
    path = Path(source).expanduser()  # a folder wins over a repository of its name
    if not path.exists():
        try:
            # From the hub's cache when it is there, also offline.
            path = Path(snapshot_download(source, revision=revision, allow_patterns=_DOWNLOADED))
        except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f'{source!r} is neither a folder nor a repository that can be downloaded ({reason}): check the '
                'spelling, the network and HF_HUB_OFFLINE, or download it elsewhere and give the folder'
            ) from error
    if not (path / 'config.json').is_file():
        raise CheckpointError(f'{path} has no config.json: give the folder of a published model')
    return path
