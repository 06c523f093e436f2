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
            _forget_starts(model)
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


def _forget_starts(part: Any) -> None:
    """Take paths to weights that do not exist out of a model's settings: a run may have moved to another machine."""
    if isinstance(part, list | tuple):
        for inner in part:
            _forget_starts(inner)
    if not isinstance(part, dict):
        return
    start = part.get('pretrained')
    if isinstance(start, str) and not Path(start).exists():
        part['pretrained'] = None
    for name, inner in part.items():
        # A language model takes settings of its own from the folder, too.
        if name != 'language_model':
            _forget_starts(inner)


def _is_published(folder: Path) -> bool:
    # Chat models in transformers' layout have the same model_type, and no QLLaMA.
    file = folder / 'config.json'
    return file.is_file() and 'qllama_config' in read_json(file)
