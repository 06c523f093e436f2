"""What the checkpoint on a command line means for a config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config

from internvl_mm.engine.checkpoint import FROZEN, read_meta
from internvl_mm.models.convert.files import read_json
from internvl_mm.models.convert.legacy import SUFFIXES
from internvl_mm.models.internvl_14b import InternVL14B, PublishedInternVL14B
from internvl_mm.preprocess.caption_tokens import CaptionTokenizer
from internvl_mm.utils.states import sound_state

from .loading import set_option


def set_checkpoint(cfg: Config, checkpoint: str | None) -> None:
    """Let a config evaluate a checkpoint.

    The folder of a published InternVL-14B, of any size, takes the place of the config's InternVL-14B and of its
    tokenizer: sizes and vocabulary are the folder's. A ``.pth`` file becomes what an InternVL-14B in the mode
    InternVL-C starts from: the original file of InternVL-C has not what the other mode needs. Anything else is loaded
    into the model the config describes, strictly.

    Args:
        cfg: Changed.
        checkpoint: A folder or file; ``None`` leaves the config as it is.
    """
    model = cfg.get('model')
    inner = model.get('model') if isinstance(model, dict) else None
    takes_folder = isinstance(inner, dict) and inner.get('type') in (InternVL14B, PublishedInternVL14B)
    of_c = takes_folder and inner['type'] is InternVL14B and model.get('image_mode') == 'InternVL-C'
    if checkpoint is not None and of_c and Path(checkpoint).suffix in SUFFIXES:
        set_option(cfg, 'model.model.pretrained', checkpoint)
        cfg.load_from = None  # of the config, which would be loaded over it
        return
    if checkpoint is None or not (takes_folder and _is_published(Path(checkpoint))):
        set_option(cfg, 'load_from', checkpoint)
        if checkpoint is not None and _holds_all(Path(checkpoint)):
            # A run may have moved to another machine.
            forget_starts(model, missing_only=True)
        return
    # _delete_ is mmengine's word for: in place of what stands there.
    parts = dict(
        model=dict(type=PublishedInternVL14B, path=checkpoint, _delete_=True),
        tokenizer=dict(type=CaptionTokenizer, path=checkpoint, _delete_=True),
    )
    set_option(cfg, 'model', parts)


def _holds_all(path: Path) -> bool:
    """Whether a path is a training state, or a folder of some, whose frozen weights were saved as well."""
    state = sound_state(path) if path.is_dir() else None
    return state is not None and FROZEN not in read_meta(state)


def forget_starts(settings: Any, *, missing_only: bool = False) -> None:
    """Take the weights that a model starts from (``pretrained…``) out of its settings, which are changed.

    Args:
        settings: Of a model or a part of it.
        missing_only: Paths that exist stay, and so does a language model's, whose folder is needed.
    """
    if isinstance(settings, list | tuple):
        for inner in settings:
            forget_starts(inner, missing_only=missing_only)
    for name, value in settings.items() if isinstance(settings, dict) else ():
        if name == 'language_model' and (missing_only or Path(str(value.get('pretrained'))).exists()):
            continue  # its angles come from there, too
        if not (isinstance(value, str) and name.startswith('pretrained')):
            forget_starts(value, missing_only=missing_only)
        elif not (missing_only and Path(value).exists()):
            settings[name] = None


def _is_published(folder: Path) -> bool:
    # Chat models in transformers' layout have the same model_type, and no QLLaMA.
    file = folder / 'config.json'
    return file.is_file() and 'qllama_config' in read_json(file)
