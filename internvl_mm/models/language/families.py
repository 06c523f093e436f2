"""Language models as data: one :class:`LanguageFamily` per architecture a published ``llm_config`` may name.

Another one is a file in this room of a few lines that calls :func:`register_family`; see docs/add_an_llm.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from internvl_mm.utils.errors import ConfigError, did_you_mean

# Of the class that is gone: which kernel to use is asked for when a model is loaded, and folder code never runs.
_DROPPED = ('attn_implementation', '_attn_implementation', '_attn_implementation_internal', 'auto_map')


@dataclass(frozen=True)
class LanguageFamily:
    """What the toolkit knows about an architecture.

    Attributes:
        architecture: ``llm_config.architectures[0]`` of published folders.
        config_class: Its transformers configuration.
        model_class: Its transformers model with a language-modelling head.
        lora_targets: Modules the published recipes adapt, as the ends of their names.
    """

    architecture: str
    config_class: type[PreTrainedConfig]
    model_class: type[PreTrainedModel]
    lora_targets: tuple[str, ...]


FAMILIES: dict[str, LanguageFamily] = {}


def register_family(family: LanguageFamily) -> None:
    """Make an architecture known to every part of the toolkit."""
    FAMILIES[family.architecture] = family


def family_of(settings: Mapping[str, Any] | PreTrainedConfig) -> LanguageFamily:
    """The family of an ``llm_config``.

    Raises:
        ConfigError: It names no architecture, or one without a family.
    """
    named = (
        settings.architectures if isinstance(settings, PreTrainedConfig) else settings.get('architectures')
    )
    architecture = (named or ['nothing'])[0]
    if architecture not in FAMILIES:
        raise ConfigError(
            f'llm_config.architectures names {architecture!r}; known are {", ".join(sorted(FAMILIES))}.'
            + did_you_mean(architecture, FAMILIES)
            + ' docs/add_an_llm.md says how to add one.'
        )
    return FAMILIES[architecture]


def language_config(settings: Mapping[str, Any] | PreTrainedConfig) -> PreTrainedConfig:
    """The transformers configuration for a published ``llm_config``.

    The output matrix is never tied to the input embeddings: every published folder stores its own, also where the
    language model it started from had none (Qwen2-0.5B).
    """
    if isinstance(settings, PreTrainedConfig):
        return settings
    family = family_of(settings)
    # A copy: transformers writes into the dicts it is given.
    kept = {name: copy.deepcopy(value) for name, value in settings.items() if name not in _DROPPED}
    kept.pop('model_type', None)  # an attribute of the class
    name, kept['rope_scaling'] = _present_rope(kept.get('rope_scaling'), kept)
    config = family.config_class(**{**kept, 'tie_word_embeddings': False})
    if name is not None:
        config.published_rope_type = name
    return config


def _present_rope(
    rope: dict[str, Any] | None, settings: Mapping[str, Any]
) -> tuple[str | None, dict[str, Any] | None]:
    """Name a folder has for rotary scaling where transformers 5 has another, and the scaling under the present name.

    Phi-3's two forms of scaling by factors per frequency, ``'su'`` and ``'yarn'``, are ``'longrope'`` today.
    """
    kind = (rope or {}).get('type') or (rope or {}).get('rope_type')
    if rope is None or kind not in ('su', 'yarn') or 'long_factor' not in rope:
        return None, rope
    rope = {name: value for name, value in rope.items() if name != 'type'}
    rope['rope_type'] = 'longrope'
    if kind == 'yarn':  # its scale of cosines and sines is another than longrope's own
        stretch = settings['max_position_embeddings'] / settings['original_max_position_embeddings']
        # 0.1·ln(s) + 1, s the stretch of the context: Peng et al. 2023, YaRN (arXiv 2309.00071).
        rope['attention_factor'] = 0.1 * math.log(stretch) + 1.0 if stretch > 1 else 1.0
    return kind, rope


def published_settings(config: PreTrainedConfig) -> dict[str, Any]:
    """A configuration as a dict that older readers understand too: ``rope_theta`` and ``rope_scaling`` apart."""
    settings = config.to_dict()
    # transformers 5 keeps base and scaling in one dict, older readers know two settings.
    rope = dict(settings.get('rope_parameters') or {})
    if rope:
        settings['rope_theta'] = rope.pop('rope_theta', None)
        kind = rope.pop('rope_type', 'default')
        rope.pop('type', None)
        if (name := settings.pop('published_rope_type', None)) is not None:
            # What current readers take from elsewhere in the settings.
            kind = name
            for derived in ('attention_factor', 'original_max_position_embeddings', 'factor'):
                rope.pop(derived, None)
        rope.pop('partial_rotary_factor', None)
        settings['rope_scaling'] = None if kind == 'default' else {'type': kind, **rope}
    return settings
